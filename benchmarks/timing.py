"""Time a function and the same step with common libraries, and the peak speed of the machine."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Pair:
    """A step of this project (`ours`), and the same step with the libraries that `peer` names (`theirs`).

    Attributes
    ----------
    unit : str
        Unit of the timings, such as "clip".
    per : float
        Number of units that one call processes.
    flop : float
        Floating-point operations of a call of `ours`; 0 if the step is not bound by matrix products.
    rounds : int
        Number of timed calls of each.
    """

    name: str
    peer: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    unit: str
    per: float = 1
    flop: float = 0
    rounds: int = 5


def seconds(function: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_memory(function: Callable[[], object]) -> float:
    """Return the largest increase of this process's resident memory during a call, in MiB."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE

    before = highest = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        function()
    finally:
        done.set()
        watcher.join()
    return (highest - before) / 2**20


def measure(pair: Pair, gflops: float) -> dict[str, float | str | None]:
    """Time a pair in alternating rounds after a warm-up.

    Returns
    -------
    dict
        Medians in seconds per unit, the median of the rounds' ratios (peer / ours), the share of `gflops`,
        the machine's peak speed, that ours reaches, and the memory of the first call of each.
    """
    ours_mib, peer_mib = peak_memory(pair.ours), peak_memory(pair.theirs)
    rounds = [(seconds(pair.ours), seconds(pair.theirs)) for _ in range(pair.rounds)]
    ours = median(own for own, _ in rounds)
    return {
        "name": pair.name,
        "peer": pair.peer,
        "unit": pair.unit,
        "ours_s": ours / pair.per,
        "peer_s": median(theirs for _, theirs in rounds) / pair.per,
        "ratio": median(theirs / own for own, theirs in rounds),
        "limit_fraction": pair.flop / ours / gflops / 1e9 if pair.flop else None,
        "ours_mib": round(ours_mib),
        "peer_mib": round(peer_mib),
    }


def matrix_gflops(device: torch.device, size: int = 2048, rounds: int = 7) -> float:
    """Return the highest speed of a float32 product of square matrices, in GFLOP/s."""
    a, b = torch.randn(2, size, size, device=device)
    return 2 * size**3 / _best(lambda: a @ b, rounds, device) / 1e9


def memory_gbs(device: torch.device, mib: int = 512, rounds: int = 7) -> float:
    """Return the highest speed of a copy in memory, reads and writes counted, in GB/s."""
    source = torch.ones(mib * 2**18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source), rounds, device) / 1e9


def _best(function: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Return the shortest duration of several calls in seconds."""

    def call() -> None:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return min(seconds(call) for _ in range(rounds))
