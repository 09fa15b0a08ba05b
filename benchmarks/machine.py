"""What the machine can do: the limits that timings are held against."""

import time

import torch


def matrix_gflops(device: torch.device, size: int = 2048, rounds: int = 7) -> float:
    """Best GFLOP/s of a float32 product of square matrices."""
    a, b = torch.randn(2, size, size, device=device)
    return 2 * size**3 / _best(lambda: a @ b, rounds, device) / 1e9


def memory_gbs(device: torch.device, mib: int = 512, rounds: int = 7) -> float:
    """Best GB/s of copying, reads and writes counted."""
    source = torch.ones(mib * 2**18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source), rounds, device) / 1e9


def _best(function, rounds: int, device: torch.device) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
