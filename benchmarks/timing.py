"""Timing two ways of doing the same thing side by side."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Pair:
    """Two ways of doing the same.

    Attributes
    ----------
    name, peer : str
    ours, theirs : callable
        Without arguments.
    per : float
        How many units (clips, steps) a call of either is.
    unit : str
    flop : float
        Floating-point operations of a call of `ours`; 0 where a product of matrices is not its measure.
    rounds : int
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
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_memory(function: Callable[[], object]) -> float:
    """By how many MiB a call raises the resident memory of this process at most."""

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

    Parameters
    ----------
    pair : Pair
    gflops : float
        What this machine reaches in a product of matrices.

    Returns
    -------
    dict
        Medians in seconds per unit, the median of the rounds' ratios (peer / ours), the fraction of `gflops`
        that ours reaches, and the memory the first call of each took.
    """
    ours_mib, peer_mib = peak_memory(pair.ours), peak_memory(pair.theirs)
    rounds = [(seconds(pair.ours), seconds(pair.theirs)) for _ in range(pair.rounds)]
    ours = median(mine for mine, _ in rounds)
    return {
        "name": pair.name,
        "peer": pair.peer,
        "unit": pair.unit,
        "ours_s": ours / pair.per,
        "peer_s": median(theirs for _, theirs in rounds) / pair.per,
        "ratio": median(theirs / mine for mine, theirs in rounds),
        "limit_fraction": pair.flop / ours / gflops / 1e9 if pair.flop else None,
        "ours_mib": round(ours_mib),
        "peer_mib": round(peer_mib),
    }
