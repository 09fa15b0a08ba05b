"""The device to compute on, set up so that equal inputs give equal bits."""

import ctypes

import torch

from ust.util.errors import UserError
from ust.util.seeding import random_stream

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def prepare(*, device: str, threads: int) -> torch.device:
    """Choose the device and make PyTorch deterministic.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        "auto" takes a GPU where there is one.
    threads : int
        CPU threads; sums depend on their number.

    Raises
    ------
    UserError
        If a GPU is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device is 'cuda', but PyTorch finds no GPU; set it to 'auto' or 'cpu'")
    keep_memory()
    torch.set_num_threads(threads)
    # As use_deterministic_algorithms(True) does, without importing the compiler: two seconds in every stage.
    torch.set_deterministic_debug_mode("error")
    # Nothing reads such memory, and filling it takes a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def seed_torch(seed: int, *names: str) -> None:
    """Set PyTorch's own generator for a purpose, as `ust.util.seeding.random_stream` makes one."""
    torch.manual_seed(int(random_stream(seed, *names).integers(2**63)))


def keep_memory() -> None:
    """Let the C library keep freed memory instead of handing it back to the system after every tensor.

    A third of the time of a training step on a CPU is page faults of fresh memory. Does nothing where the C
    library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
