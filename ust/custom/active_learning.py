"""Which clips to listen to next: those that teach a tagger most, or a random few."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ust.custom.project import FEATURES, PREDICTIONS
from ust.datasets.collection import ANNOTATIONS, Collection
from ust.evaluation.predictions import read_predictions
from ust.features.store import open_features
from ust.util.errors import UserError
from ust.util.seeding import random_stream

SMALLEST = 1e-6


@dataclass(frozen=True)
class ReviewState:
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


def select_uncertain(known: ReviewState, count: int, seed: int) -> list[int]:
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


def select_disputed(known: ReviewState, count: int, seed: int) -> list[int]:
    """Of the clips with labels those whose labels surprise the tagger most: mistakes of one or the other."""
    p = np.clip(known.predicted, SMALLEST, 1 - SMALLEST)
    surprise = -(known.labels * np.log(p) + (1 - known.labels) * np.log1p(-p)).sum(axis=1)
    order = np.argsort(-np.where(known.labelled, surprise, -1.0), kind="stable")
    return [int(index) for index in order[: min(count, int(known.labelled.sum()))]]


def select_random(known: ReviewState, count: int, seed: int) -> list[int]:
    """Of the clips without labels any."""
    left = np.flatnonzero(~known.labelled)
    return [int(index) for index in random_stream(seed, "review").permutation(left)[:count]]


STRATEGIES: dict[str, Callable[[ReviewState, int, int], list[int]]] = {
    "uncertain": select_uncertain,
    "disputed": select_disputed,
    "random": select_random,
}


def select_clips(
    strategy: str, names: Sequence[str], known: ReviewState, *, count: int, seed: int
) -> list[str]:
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


def load_review_state(collection: Collection) -> tuple[list[str], ReviewState, dict[str, dict[str, float]]]:
    """The clips, what is known of them, and by clip and label what the tagger thinks.

    Without a training nothing is thought, and all embeddings are alike; clips that came since are thought of
    as the mean of the others.
    """
    folder, labels = collection.folder, list(collection.taxonomy.labels)
    names = list(collection.clips().index)
    said = np.zeros((len(names), len(labels)))
    labelled = np.zeros(len(names), bool)
    place = {name: index for index, name in enumerate(names)}
    if (folder / ANNOTATIONS).exists():
        table = collection.annotations()
        for name, share in (
            (table.set_index("audio_filename")[labels] == 1).groupby(level=0).mean().iterrows()
        ):
            if name in place:
                labelled[place[name]] = True
                said[place[name]] = share
    predicted = np.full((len(names), len(labels)), 0.5)
    embeddings = np.zeros((len(names), 1))
    thought: dict[str, dict[str, float]] = {}
    files = sorted((folder / FEATURES).glob("*.h5"))
    if (folder / PREDICTIONS).exists() and files:
        with open_features(files[0], files[0].stem) as file:
            of_clip = dict(zip(file.clip, file[np.arange(len(file.clip))], strict=True))
        there = [name for name in names if name in of_clip]
        table, _ = read_predictions(folder / PREDICTIONS, there, collection.taxonomy)
        mean_of = {name: table.loc[name].to_numpy() for name in there}
        values, vectors = table.to_numpy().mean(axis=0), np.mean([of_clip[name] for name in there], axis=0)
        predicted = np.stack([mean_of.get(name, values) for name in names])
        embeddings = np.stack([of_clip.get(name, vectors) for name in names])
        thought = {name: dict(zip(labels, map(float, mean_of[name].round(4)), strict=True)) for name in there}
    return names, ReviewState(predicted, embeddings, said, labelled), thought
