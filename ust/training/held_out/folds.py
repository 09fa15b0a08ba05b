"""Folds of the train clips that keep sensors apart."""

from collections.abc import Iterable, Iterator

import numpy as np

from ust.files.errors import UserError
from ust.files.seeding import generator


def sensors_of(clips: Iterable[str]) -> np.ndarray:
    """The sensor that recorded each clip, which its name begins with: ``SENSOR_NUMBER.wav``."""
    return np.array([clip.split("_")[0] for clip in clips])


def folds(groups: np.ndarray, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices to train on and held out, so that each is held out once and no group is on both sides.

    Parameters
    ----------
    groups : numpy.ndarray [shape=(n,)]
    count : int
        Of folds.
    seed : int
        Of the order in which groups of equal size are dealt; the largest first, each to the smallest fold.

    Raises
    ------
    UserError
        If there are fewer groups than folds.
    """
    names, sizes = np.unique(groups, return_counts=True)
    if len(names) < count:
        raise UserError(
            f"the train clips are of {len(names)} sensor(s), too few for {count} folds; set folds lower"
        )
    order = generator(seed, "folds").permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled, fold_of = np.zeros(count, int), {}
    for index in order:
        fold_of[names[index]] = int(np.argmin(filled))
        filled[fold_of[names[index]]] += sizes[index]
    numbers = np.array([fold_of[group] for group in groups])
    for number in range(count):
        yield np.flatnonzero(numbers != number), np.flatnonzero(numbers == number)
