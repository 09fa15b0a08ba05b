"""Named random streams, independent of call order, and draws that are equal on every processor."""

import hashlib
from collections.abc import Callable

import numpy as np

CHUNK = 2**16  # draws at a time: half a MiB, which fits in the cache


def random_stream(seed: int, *names: str) -> np.random.Generator:
    """Return a random generator for a purpose; equal seeds and names give equal draws.

    With one stream per purpose, such as ``random_stream(0, "augment", clip)``, draws depend neither on the
    number of clips nor on the worker that processes them.
    """
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    entropy = [seed, *np.frombuffer(digest[:16], np.uint32).tolist()]
    return np.random.Generator(np.random.PCG64(entropy))


def fill_uniform(values: np.ndarray, bound: float, rng: np.random.Generator) -> None:
    """Fill a contiguous float32 array with uniform draws from ±`bound`, in place.

    Draws are made in float64 and rounded. ``rng.uniform`` is not used because a compiler may fuse its product
    and sum, which changes the last bit; here each step is one operation that IEEE 754 defines.
    """

    def draw(part: np.ndarray) -> None:
        rng.random(out=part)
        part *= 2
        part -= 1

    _fill(values, draw, bound)


def fill_normal(values: np.ndarray, deviation: float, rng: np.random.Generator) -> None:
    """Fill a contiguous float32 array with normal draws of mean 0, in place; see `fill_uniform`."""
    _fill(values, lambda part: rng.standard_normal(out=part), deviation)


def _fill(values: np.ndarray, draw: Callable[[np.ndarray], object], scale: float) -> None:
    """Fill `values` in chunks with scaled draws."""
    flat = values.reshape(-1)
    if not np.shares_memory(flat, values) or flat.dtype != np.float32:
        raise ValueError("the array should be contiguous and float32")
    buffer = np.empty(min(CHUNK, flat.size))
    for start in range(0, flat.size, CHUNK):
        part = buffer[: flat.size - start]
        draw(part)
        part *= scale
        flat[start : start + CHUNK] = part
