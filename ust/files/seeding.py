"""Random generators that belong to a purpose, not to a turn."""

import hashlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator of its own for a purpose: the same seed and names give the same draws.

    Named by what they are for instead of numbered by turn, draws do not depend on how many clips there are
    or which worker takes them.
    """
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], np.uint32).tolist()])
