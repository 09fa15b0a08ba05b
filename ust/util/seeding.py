"""Random generators that belong to a purpose, not to a turn; draws that are the same on every processor."""

import hashlib
from collections.abc import Callable

import numpy as np

CHUNK = 2**16  # draws at a time: half a MiB, which stays in the cache


def random_stream(seed: int, *names: str) -> np.random.Generator:
    """A random generator of its own for a purpose: the same seed and names give the same draws.

    Named by what they are for instead of numbered by turn, draws do not depend on how many clips there are
    or which worker takes them.
    """
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    entropy = [seed, *np.frombuffer(digest[:16], np.uint32).tolist()]
    return np.random.Generator(np.random.PCG64(entropy))


def fill_uniform(values: np.ndarray, bound: float, rng: np.random.Generator) -> None:
    """Fill a contiguous float32 array with uniform draws from ±`bound`, in place.

    Drawn in float64 and rounded. Not by ``rng.uniform``: where a compiler fuses its product and sum, the last
    bit is another; here each step is one operation that IEEE 754 defines.
    """

    def draw(part: np.ndarray) -> None:
        rng.random(out=part)
        part *= 2
        part -= 1

    _fill(values, draw, bound)


def fill_normal(values: np.ndarray, deviation: float, rng: np.random.Generator) -> None:
    """Fill a contiguous float32 array with normal draws of mean 0, in place, as `fill_uniform` does."""
    _fill(values, lambda part: rng.standard_normal(out=part), deviation)


def _fill(values: np.ndarray, draw: Callable[[np.ndarray], object], scale: float) -> None:
    flat = values.reshape(-1)
    if not np.shares_memory(flat, values) or flat.dtype != np.float32:
        raise ValueError("draws fill contiguous float32 arrays")
    buffer = np.empty(min(CHUNK, flat.size))
    for start in range(0, flat.size, CHUNK):
        part = buffer[: flat.size - start]
        draw(part)
        part *= scale
        flat[start : start + CHUNK] = part
