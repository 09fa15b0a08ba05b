"""Folds of the train clips that keep sensors apart."""

from collections.abc import Iterator

import numpy as np

from ust.files.errors import UserError


def folds(groups: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices to train on and held out, so that each is held out once and no group is on both sides.

    They are scikit-learn's `GroupKFold`: the largest group first, each to the smallest fold.

    Parameters
    ----------
    groups : numpy.ndarray [shape=(n,)]
        Of each clip, such as its sensor_id.
    count : int
        Of folds.

    Raises
    ------
    UserError
        If there are fewer groups than folds.

    Examples
    --------
    >>> for rest, held in folds(np.array(["a", "a", "b", "c"]), 2):
    ...     print(rest, held)
    [2 3] [0 1]
    [0 1] [2 3]
    """
    from sklearn.model_selection import GroupKFold  # here: it takes a second, and only some recipes need it

    found = len(np.unique(groups))
    if found < count:
        raise UserError(
            f"the train clips are of {found} sensor(s), too few for {count} folds; set folds lower"
        )
    yield from GroupKFold(count).split(groups, groups=groups)
