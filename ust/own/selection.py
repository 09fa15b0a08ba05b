"""Which clips to listen to next: those that teach a tagger most, or a random few."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ust.files.errors import UserError
from ust.files.seeding import generator

SMALLEST = 1e-6


@dataclass(frozen=True)
class Known:
    """What is known of the clips, in one order.

    Attributes
    ----------
    predicted : numpy.ndarray [shape=(clips, labels)]
        Probabilities; out of fold of those that are labelled.
    embeddings : numpy.ndarray [shape=(clips, size)]
    labels : numpy.ndarray [shape=(clips, labels)]
        From 0 to 1; of use where `labelled`.
    labelled : numpy.ndarray [shape=(clips,), bool]
    """

    predicted: np.ndarray
    embeddings: np.ndarray
    labels: np.ndarray
    labelled: np.ndarray


def uncertain(known: Known, count: int, seed: int) -> list[int]:
    """Of the clips without labels those whose labels are least sure, each unlike those before it.

    How unsure a clip is is the sum of its labels' entropies; that is weighed by how far its embedding is from
    the nearest one that is chosen or labelled.

    References
    ----------
    Brinker, Incorporating Diversity in Active Learning with Support Vector Machines, ICML 2003; of several
    labels, and of entropies.
    """
    p = np.clip(known.predicted, SMALLEST, 1 - SMALLEST)
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p)).sum(axis=1)
    deviation = known.embeddings.std(axis=0)
    x = (known.embeddings - known.embeddings.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), SMALLEST)
    distance = np.full(len(x), 2.0)
    for index in np.flatnonzero(known.labelled):
        distance = np.minimum(distance, 1 - x @ x[index])
    left = ~known.labelled
    chosen: list[int] = []
    while left.any() and len(chosen) < count:
        worth = np.where(left, entropy * np.maximum(distance, SMALLEST), -1.0)
        best = int(np.argmax(worth))
        chosen.append(best)
        left[best] = False
        distance = np.minimum(distance, 1 - x @ x[best])
    return chosen


def disputed(known: Known, count: int, seed: int) -> list[int]:
    """Of the clips with labels those whose labels surprise the tagger most: mistakes of one or the other."""
    p = np.clip(known.predicted, SMALLEST, 1 - SMALLEST)
    surprise = -(known.labels * np.log(p) + (1 - known.labels) * np.log1p(-p)).sum(axis=1)
    order = np.argsort(-np.where(known.labelled, surprise, -1.0), kind="stable")
    return [int(index) for index in order[: min(count, int(known.labelled.sum()))]]


def random(known: Known, count: int, seed: int) -> list[int]:
    """Of the clips without labels any."""
    left = np.flatnonzero(~known.labelled)
    return [int(index) for index in generator(seed, "review").permutation(left)[:count]]


STRATEGIES: dict[str, Callable[[Known, int, int], list[int]]] = {
    "uncertain": uncertain,
    "disputed": disputed,
    "random": random,
}


def choose(strategy: str, names: Sequence[str], known: Known, *, count: int, seed: int) -> list[str]:
    """The clips to listen to, the most useful first.

    Raises
    ------
    UserError
        If there are none of the kind that the strategy looks at.
    """
    chosen = STRATEGIES[strategy](known, count, seed)
    if not chosen:
        if strategy == "disputed":
            raise UserError("there are no labelled clips to review")
        raise UserError(
            "there are no unlabelled clips to review; ust import --unlabelled brings some, "
            "--by disputed checks others"
        )
    return [names[index] for index in chosen]
