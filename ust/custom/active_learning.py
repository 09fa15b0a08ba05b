"""Active learning: selecting the clips to label next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import pandas as pd

from ust.custom.project import FEATURES, PARAMS, PREDICTIONS, SYSTEM
from ust.datasets.collection import ANNOTATIONS, Collection
from ust.evaluation.predictions import read_predictions
from ust.features.store import open_features
from ust.training.registry import read_system_config
from ust.util.errors import UserError
from ust.util.seeding import random_stream

EPSILON = 1e-6  # avoids the logarithm of 0 and division by 0


@dataclass(frozen=True)
class ReviewState:
    """Predictions, embeddings and labels of all clips, in the same order."""

    predicted: np.ndarray  # probabilities (clips, labels), out of fold for labelled clips
    embeddings: np.ndarray  # of the pretrained network (clips, size)
    labels: np.ndarray  # share of the annotators asked that marked a label, NaN if none was (clips, labels)
    labelled: np.ndarray  # whether a clip has been labelled (clips,)


def select_uncertain(state: ReviewState, count: int, seed: int) -> list[int]:
    """Select unlabelled clips with uncertain predictions that differ from each other.

    Clips are selected greedily by the sum of the entropies of their labels, multiplied by the cosine distance
    of the embedding to the nearest labelled or selected clip (Brinker, Incorporating Diversity in Active
    Learning with Support Vector Machines, ICML 2003; extended to several labels and to entropies).
    """
    p = np.clip(state.predicted, EPSILON, 1 - EPSILON)
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p)).sum(axis=1)
    deviation = state.embeddings.std(axis=0)
    x = (state.embeddings - state.embeddings.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), EPSILON)
    distance = np.full(len(x), 2.0)
    for index in np.flatnonzero(state.labelled):
        distance = np.minimum(distance, 1 - x @ x[index])
    candidates = ~state.labelled
    chosen: list[int] = []
    while candidates.any() and len(chosen) < count:
        score = np.where(candidates, entropy * np.maximum(distance, EPSILON), -1.0)
        best = int(np.argmax(score))
        chosen.append(best)
        candidates[best] = False
        distance = np.minimum(distance, 1 - x @ x[best])
    return chosen


def select_disputed(state: ReviewState, count: int, seed: int) -> list[int]:
    """Select labelled clips whose labels contradict the predictions most: likely errors of either."""
    p = np.clip(state.predicted, EPSILON, 1 - EPSILON)
    cross_entropy = -np.nansum(state.labels * np.log(p) + (1 - state.labels) * np.log1p(-p), axis=1)
    order = np.argsort(-np.where(state.labelled, cross_entropy, -1.0), kind="stable")
    return [int(index) for index in order[: min(count, int(state.labelled.sum()))]]


def select_random(state: ReviewState, count: int, seed: int) -> list[int]:
    """Select unlabelled clips at random."""
    candidates = np.flatnonzero(~state.labelled)
    return [int(index) for index in random_stream(seed, "review").permutation(candidates)[:count]]


STRATEGIES: dict[str, Callable[[ReviewState, int, int], list[int]]] = {
    "uncertain": select_uncertain,
    "disputed": select_disputed,
    "random": select_random,
}


def select_clips(
    strategy: str, names: Sequence[str], state: ReviewState, *, count: int, seed: int
) -> list[str]:
    """Select the clips to review.

    Parameters
    ----------
    strategy : str
        A key of `STRATEGIES`.
    names : sequence of str
        Names of the clips, in the order of `state`.
    state : ReviewState
        Predictions, embeddings and labels of the clips.
    count : int
        Largest number of clips.
    seed : int
        Seed of the strategy ``random``.

    Returns
    -------
    list of str
        Names of the clips, the most useful first.

    Raises
    ------
    UserError
        If no clip qualifies for the strategy.

    Examples
    --------
    >>> names, state, predictions = load_review_state(collection)  # doctest: +SKIP
    >>> select_clips("uncertain", names, state, count=20, seed=0)  # doctest: +SKIP
    """
    chosen = STRATEGIES[strategy](state, count, seed)
    if not chosen:
        if strategy == "disputed":
            raise UserError("there are no labelled clips to review")
        raise UserError(
            "there are no unlabelled clips to review; add some by ust import --unlabelled, or "
            "review labelled clips by --by disputed"
        )
    return [names[index] for index in chosen]


def load_review_state(collection: Collection) -> tuple[list[str], ReviewState, dict[str, dict[str, float]]]:
    """Read predictions, embeddings and labels of all clips of a collection.

    Before the first training all predictions are 0.5 and all embeddings equal. Clips imported after the
    training get the mean predictions and embeddings of the others.
    """
    folder, labels = collection.folder, list(collection.taxonomy.labels)
    names = list(collection.clips().index)
    shares, labelled = np.zeros((len(names), len(labels))), np.zeros(len(names), bool)
    if (folder / ANNOTATIONS).exists():
        present = collection.annotations().set_index("audio_filename")[labels]
        shares_of_clips = (present == 1).astype(float).where(present != -1).groupby(level=0).mean()
        labelled = np.isin(names, shares_of_clips.index)
        shares = shares_of_clips.reindex(names).to_numpy()
    predicted, embeddings = np.full((len(names), len(labels)), 0.5), np.zeros((len(names), 1))
    predictions: dict[str, dict[str, float]] = {}
    files = list((folder / FEATURES).glob("*.h5"))
    if (folder / PREDICTIONS).exists() and files:
        # The feature of the system, unless the project has not been trained with it.
        feature = read_system_config(folder / PARAMS, SYSTEM).row.features[0]
        files.sort(key=lambda path: (path.stem != feature, path.stem))
        with open_features(files[0], files[0].stem) as file:
            rows = pd.Index(file.clip).get_indexer(names)
            stored = file[np.arange(len(file.clip))]
        extracted = rows >= 0
        clips = list(compress(names, extracted))
        table, _ = read_predictions(folder / PREDICTIONS, clips, collection.taxonomy)
        predicted = np.where(extracted[:, None], table.reindex(names), table.to_numpy().mean(axis=0))
        known = stored[rows[extracted]]
        embeddings = np.where(extracted[:, None], stored[rows], known.mean(axis=0))
        predictions = table.round(4).to_dict("index")
    return names, ReviewState(predicted, embeddings, shares, labelled), predictions
