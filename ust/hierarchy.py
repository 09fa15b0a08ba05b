"""The hierarchy of local classifiers that a taxonomy implies, and how their answers make one."""

from collections.abc import Callable

import numpy as np

from ust.taxonomy import Taxonomy

ROOT = "root"
OTHER = "other"  # a fine classifier's output for clips of other groups


def parents(taxonomy: Taxonomy) -> list[int]:
    """The groups that need a classifier of their own: those with more than one fine label."""
    return [group for group in range(len(taxonomy.coarse)) if len(taxonomy.members(group)) > 1]


def node_labels(taxonomy: Taxonomy, group: int) -> list[str]:
    """The fine labels of a group."""
    return [taxonomy.fine[index] for index in taxonomy.members(group)]


def combine(
    root: np.ndarray,
    fine: Callable[[int, np.ndarray], np.ndarray | None],
    taxonomy: Taxonomy,
    *,
    threshold: float,
    keep: bool,
) -> np.ndarray:
    """Probabilities of all labels from the classifiers' answers, by the report's rule.

    For each clip the classifier of the most probable coarse class runs, and those of the other classes above
    the threshold. What groups have that did not run follows from `keep`.

    Parameters
    ----------
    root : numpy.ndarray [shape=(n, labels)]
        The root's probabilities, coarse first; of its fine ones only where they are to be kept.
    fine : callable
        Given a group and the indices of clips, the group's fine probabilities for them
        [shape=(indices, fine labels of the group)], or None where it has no classifier.
    taxonomy : Taxonomy
    threshold : float
    keep : bool
        Keep the root's fine probabilities of groups that did not run, those with only one fine label among
        them. Otherwise they are 0, and such a one label has the coarse probability.

    Returns
    -------
    numpy.ndarray [shape=(n, labels)]
        Coarse first.
    """
    k = len(taxonomy.coarse)
    coarse = root[:, :k]
    out = root.copy()
    if not keep:
        out[:, k:] = 0
    runs = coarse > threshold
    runs[np.arange(len(coarse)), coarse.argmax(axis=1)] = True
    for group in range(k):
        columns = [k + index for index in taxonomy.members(group)]
        if len(columns) > 1 and runs[:, group].any():
            clips = np.flatnonzero(runs[:, group])
            answer = fine(group, clips)
            if answer is not None:
                out[np.ix_(clips, columns)] = answer
        elif len(columns) == 1 and not keep:
            out[:, columns[0]] = coarse[:, group]
    return out
