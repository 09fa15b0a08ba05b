"""Choose the PyTorch device and make PyTorch deterministic."""

import ctypes

import torch

from ust.util.errors import UserError
from ust.util.seeding import random_stream

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # constants of glibc's malloc.h


def prepare_device(*, device: str, threads: int) -> torch.device:
    """Return the device to compute on, and make PyTorch deterministic."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device is 'cuda', but PyTorch finds no GPU; set it to 'auto' or 'cpu'")
    keep_freed_memory()
    torch.set_num_threads(threads)
    # Like use_deterministic_algorithms(True), which also imports torch.compile: two seconds in every stage.
    torch.set_deterministic_debug_mode("error")
    # No code here reads uninitialized memory; filling it would take a tenth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def check_precision(precision: str, device: torch.device, parameter: str) -> None:
    """Refuse bfloat16 on a CPU that emulates it: a training step takes twenty times as long as in float32."""
    if precision == "bfloat16" and device.type == "cpu" and not cpu_has_bfloat16():
        raise UserError(
            f"{parameter} is 'bfloat16', for which this CPU has no instructions: it would be much slower "
            "than 'float32'; set it to 'float32', or compute on a GPU or a CPU with AVX-512 BF16 or AMX"
        )


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16, such as avx512_bf16 or amx_bf16."""
    if not hasattr(torch.cpu, "get_capabilities"):  # older releases of PyTorch do not report them
        return True
    return any("bf16" in name and has for name, has in torch.cpu.get_capabilities().items())


def seed_torch(seed: int, *names: str) -> None:
    """Seed PyTorch's global generator from the named stream of `ust.util.seeding.random_stream`."""
    torch.manual_seed(int(random_stream(seed, *names).integers(2**63)))


def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory instead of returning it to the system after every tensor.

    Otherwise page faults of new memory take a third of a training step on a CPU. Without glibc this function
    has no effect.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
