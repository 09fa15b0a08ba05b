"""The official metrics of DCASE 2019 Task 5, for all thresholds at once.

Precision and recall are taken per coarse category over all thresholds; an uncertain ``-X`` label in the
ground truth accepts any prediction of its group. As the threshold falls, each clip changes a category's
counts at a few values: those `Events`, found once, are summed up over the clips, or over any resample of
them. The loop over thresholds is kept in the tests as the oracle.

Every sort is stable. The official code sorts the points of a precision-recall curve by recall with
``np.argsort``'s default. That leaves points of equal recall in an order that depends on the NumPy version and
on whether the processor has AVX-512, and the area under the curve depends on that order. Here points of equal
recall stand in the order of falling threshold, so that the figures are the same on every machine. Against
the official script, micro F1 is equal, and micro AUPRC differs by up to 1e-4 (0.006 where many predictions
are equal). Official macro AUPRC that was published with NumPy before 1.25, whose sort left another order, is
0.002 to 0.009 lower. docs/metrics.md has a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ust.annotations.taxonomy import Taxonomy

LOWEST_THRESHOLD = 0.01
DECISION_THRESHOLD = 0.5


@dataclass(frozen=True)
class Events:
    """What of each clip changes a category's counts as the threshold falls.

    Attributes
    ----------
    thresholds : numpy.ndarray [shape=(m,)]
        Descending, from 1.0.
    place : numpy.ndarray [shape=(events,), int64]
        The first threshold that has the event.
    clip : numpy.ndarray [shape=(events,), int64]
    gains : numpy.ndarray [shape=(3, events), int64]
        Of true positives, false positives and false negatives.
    missed : numpy.ndarray [shape=(clips,), int64]
        False negatives as long as nothing is predicted.
    positive : numpy.ndarray [shape=(clips,), bool]
        Whether the ground truth has anything of the category.
    of_prediction : numpy.ndarray [shape=(2, values), int64]
        Place and clip of each predicted value that is a threshold.
    between : bool
        Whether an event can be at a value that is no prediction of a complete label.
    """

    thresholds: np.ndarray
    place: np.ndarray
    clip: np.ndarray
    gains: np.ndarray
    missed: np.ndarray
    positive: np.ndarray
    of_prediction: np.ndarray
    between: bool


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives of a category at its thresholds.

    Attributes
    ----------
    thresholds : numpy.ndarray [shape=(m,)]
        Descending, from 1.0.
    true_positive, false_positive, false_negative : numpy.ndarray [shape=(m,), int64]
    positives : int
        Clips whose ground truth has anything of the category.
    """

    thresholds: np.ndarray
    true_positive: np.ndarray
    false_positive: np.ndarray
    false_negative: np.ndarray
    positives: int


@dataclass(frozen=True)
class Scores:
    """The official figures of one level.

    Attributes
    ----------
    micro_auprc, micro_f1, macro_auprc : float
    macro_auprc_present : float
        The mean over the categories with positives (0 without any).
    class_auprc, class_positives : dict
        By coarse name.
    """

    micro_auprc: float
    micro_f1: float
    macro_auprc: float
    macro_auprc_present: float
    class_auprc: dict[str, float]
    class_positives: dict[str, int]


def coarse_events(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Events]:
    """Events of each coarse category.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, coarse labels)]
        Ground truth (1 where heard) and probabilities.
    """
    never = np.zeros(len(truth))
    return [
        _events(truth[:, [g]] == 1, never == 1, predicted[:, [g]], never) for g in range(len(taxonomy.coarse))
    ]


def fine_events(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Events]:
    """Events of each coarse category that has fine labels over those.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, fine labels)]
        Ground truth (1 where heard) and probabilities.
    """
    found = []
    for g in taxonomy.groups("fine"):
        complete, x = taxonomy.complete(g), taxonomy.incomplete(g)
        truth_x = truth[:, x] == 1 if x is not None else np.zeros(len(truth), bool)
        predicted_x = predicted[:, x] if x is not None else np.zeros(len(truth))
        found.append(_events(truth[:, complete] == 1, truth_x, predicted[:, complete], predicted_x))
    return found


def coarse_counts(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Counts]:
    """Counts of each coarse category; see `coarse_events`."""
    return [counts(events) for events in coarse_events(truth, predicted, taxonomy)]


def fine_counts(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Counts]:
    """Counts of each coarse category that has fine labels over those; see `fine_events`."""
    return [counts(events) for events in fine_events(truth, predicted, taxonomy)]


def counts(events: Events) -> Counts:
    """The counts at every threshold, each clip counted once."""
    size = len(events.thresholds)
    gains = [np.bincount(events.place, weights=gain, minlength=size) for gain in events.gains]
    tp, fp, fn = np.cumsum(gains, axis=1).astype(np.int64)
    positives = int(np.count_nonzero(events.positive))
    return Counts(events.thresholds, tp, fp, events.missed.sum() + fn, positives=positives)


def score(counts: list[Counts], names: Sequence[str]) -> Scores:
    """The official figures from the counts of categories and their names (`Taxonomy.categories`)."""
    areas = [area(*precision_recall(category)) for category in counts]
    present = [found for found, category in zip(areas, counts, strict=True) if category.positives]
    micro = micro_counts(counts)
    precision, recall = precision_recall(micro)
    at_half = last_at_least(micro.thresholds, DECISION_THRESHOLD)
    p, r = precision[at_half], recall[at_half]
    return Scores(
        micro_auprc=area(precision, recall),
        micro_f1=float(2 / (1 / p + 1 / r)) if p > 0 and r > 0 else 0.0,
        macro_auprc=float(np.mean(areas)),
        macro_auprc_present=float(np.mean(present)) if present else 0.0,
        class_auprc=dict(zip(names, areas, strict=True)),
        class_positives={name: category.positives for name, category in zip(names, counts, strict=True)},
    )


def micro_counts(counts: list[Counts]) -> Counts:
    """Counts added over categories at every distinct threshold of any of them, descending.

    Each category counts at its lowest own threshold that is not below.
    """
    thresholds = np.concatenate([category.thresholds for category in counts])
    # What each category's counts gain at each of its thresholds, from the highest down; added up over all.
    gains = np.concatenate([np.diff(_stacked(category), prepend=0) for category in counts], axis=1)
    order = np.argsort(-thresholds, kind="stable")
    sums = np.cumsum(gains[:, order], axis=1)
    thresholds = thresholds[order]
    last = np.append(thresholds[1:] != thresholds[:-1], True)  # equal thresholds count together
    return Counts(thresholds[last], *sums[:, last], positives=sum(c.positives for c in counts))


def _stacked(counts: Counts) -> np.ndarray:
    return np.stack([counts.true_positive, counts.false_positive, counts.false_negative])


def precision_recall(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall [shape=(m,)] at the counts' thresholds; 0 where there is nothing to divide by."""
    return ratios(counts.true_positive, counts.false_positive, counts.false_negative)


def ratios(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of counts of any shape; 0 where there is nothing to divide by."""
    return tp / np.maximum(tp + fp, 0.5), tp / np.maximum(tp + fn, 0.5)


def area(precision: np.ndarray, recall: np.ndarray) -> float:
    """Return the area under the curve through the points, from precision 1 at recall 0 to 0 at recall 1.

    Points of equal recall stay in the order in which they are given.
    """
    order = np.argsort(recall, kind="stable")
    recall = np.concatenate([[0.0], recall[order], [1.0]])
    precision = np.concatenate([[1.0], precision[order], [0.0]])
    return float(np.trapezoid(precision, recall))


def last_at_least(descending: np.ndarray, value: float) -> int:
    """Return the index of the lowest of descending thresholds that is not below a value."""
    return int(np.searchsorted(-descending, -value, side="right")) - 1


def _thresholds(predicted: np.ndarray) -> np.ndarray:
    values = np.unique(predicted)
    return np.unique(np.append(values[values >= LOWEST_THRESHOLD], 1.0))[::-1]


def _events(truth: np.ndarray, truth_x: np.ndarray, predicted: np.ndarray, predicted_x: np.ndarray) -> Events:
    """Events of the complete labels (clips, k) and the incomplete one (clips,), see the module's head."""
    thresholds = _thresholds(predicted)
    clips = np.arange(len(truth))
    of_label = np.broadcast_to(clips[:, None], truth.shape)
    any_truth = truth.any(axis=1)
    only_x, neither = truth_x & ~any_truth, ~truth_x & ~any_truth
    wrong = ~truth & ~truth_x[:, None]
    # A clip's highest value of the group, and its highest that is right: between the two, something of the
    # group is predicted, but nothing of it right.
    highest = np.maximum(predicted.max(axis=1, initial=0.0), predicted_x)
    highest_right = np.where(truth, predicted, -1.0).max(axis=1, initial=-1.0)
    # Where nothing of the group is there, a predicted X counts unless all complete labels are predicted too.
    all_predicted = np.minimum(predicted.min(axis=1, initial=np.inf), predicted_x)
    kinds = [  # values, clips, and what they add to true positives, false positives, false negatives
        (predicted[truth], of_label[truth], (1, 0, -1)),
        (predicted[wrong], of_label[wrong], (0, 1, 0)),
        (highest[truth_x], clips[truth_x], (1, 0, 0)),
        (highest_right[truth_x], clips[truth_x], (-1, 0, 0)),
        (highest[only_x], clips[only_x], (0, 0, -1)),
        (predicted_x[neither], clips[neither], (0, 1, 0)),
        (all_predicted[neither], clips[neither], (0, -1, 0)),
    ]
    values = np.concatenate([kind[0] for kind in kinds])
    place = _places(values, thresholds)
    kept = place < len(thresholds)
    gains = np.repeat([kind[2] for kind in kinds], [len(kind[0]) for kind in kinds], axis=0).T
    of_prediction = np.stack([_places(predicted.ravel(), thresholds), of_label.ravel()])
    return Events(
        thresholds,
        place[kept],
        np.concatenate([kind[1] for kind in kinds])[kept],
        gains[:, kept],
        missed=truth.sum(axis=1) + only_x,
        positive=truth_x | any_truth,
        of_prediction=of_prediction[:, of_prediction[0] < len(thresholds)],
        between=bool(truth_x.any() or predicted_x.max(initial=0.0) >= LOWEST_THRESHOLD),
    )


def _places(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The first of the descending thresholds that each value reaches; their number if it reaches none."""
    return len(thresholds) - np.searchsorted(thresholds[::-1], values, side="right")
