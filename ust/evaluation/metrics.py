"""Official metrics of DCASE 2019 Task 5, vectorised over thresholds.

Precision and recall are computed per coarse category over all thresholds. An incomplete ``-X`` label in the
ground truth accepts any prediction of its group. As the threshold falls, each clip changes a category's
counts at a few values. These changes (`Events`) are computed once and summed over all clips, or over a
bootstrap resample. The tests compare the result with a plain loop over thresholds.

Every sort is stable. The official code sorts the points of a precision-recall curve by recall with
``np.argsort``'s default. That leaves points of equal recall in an order that depends on the NumPy version and
on whether the processor has AVX-512, and the area under the curve depends on that order. Here points of equal
recall are ordered by falling threshold, so that the metrics are the same on every machine. Compared with
the official script, micro F1 is equal, and micro AUPRC differs by up to 1e-4 (0.006 where many predictions
are equal). Official macro AUPRC published with NumPy before 1.25, which sorted in another order, is
0.002 to 0.009 lower. docs/metrics.md has a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ust.annotations.taxonomy import Taxonomy

HEADLINES = ("micro_auprc", "micro_f1", "macro_auprc")  # of each level, in the metrics files
LOWEST_THRESHOLD = 0.01
DECISION_THRESHOLD = 0.5


@dataclass(frozen=True)
class Events:
    """Changes of a category's counts as the threshold falls."""

    thresholds: np.ndarray  # (m,): descending, from 1.0
    threshold_index: np.ndarray  # (events,): the highest threshold at which each event has happened
    clip: np.ndarray  # (events,): the clip of each event
    gains: np.ndarray  # (3, events): changes of true positives, false positives and false negatives
    missed: np.ndarray  # (clips,): false negatives of each clip when nothing is predicted
    positive: np.ndarray  # (clips,): whether the ground truth has a label of the category
    # (2, values): threshold index and clip of each predicted value that is a threshold
    predictions: np.ndarray
    # Whether events can lie between thresholds, at a value that no complete label is predicted with
    has_intermediate: bool


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives of a category at its thresholds."""

    thresholds: np.ndarray  # (m,): descending, from 1.0
    true_positive: np.ndarray
    false_positive: np.ndarray
    false_negative: np.ndarray
    positives: int  # number of clips whose ground truth has a label of the category


@dataclass(frozen=True)
class Scores:
    """The official metrics of one level."""

    micro_auprc: float
    micro_f1: float
    macro_auprc: float
    macro_auprc_present: float  # the mean over the categories with positives; 0 if no category has any
    class_auprc: dict[str, float]  # by coarse name
    class_positives: dict[str, int]


def coarse_events(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Events]:
    """Compute the events of each coarse category from its coarse label."""
    never = np.zeros(len(truth))
    return [
        _events(truth[:, [g]] == 1, never == 1, predicted[:, [g]], never) for g in range(len(taxonomy.coarse))
    ]


def fine_events(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Events]:
    """Compute the events of each coarse category that has fine labels, from these."""
    events = []
    for g in taxonomy.groups("fine"):
        complete, x = taxonomy.complete(g), taxonomy.incomplete(g)
        truth_x = truth[:, x] == 1 if x is not None else np.zeros(len(truth), bool)
        predicted_x = predicted[:, x] if x is not None else np.zeros(len(truth))
        events.append(_events(truth[:, complete] == 1, truth_x, predicted[:, complete], predicted_x))
    return events


def coarse_counts(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Counts]:
    """Count the coarse labels of each category at its thresholds; see `coarse_events`."""
    return [threshold_counts(events) for events in coarse_events(truth, predicted, taxonomy)]


def fine_counts(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Counts]:
    """Count the fine labels of each category at its thresholds; see `fine_events`."""
    return [threshold_counts(events) for events in fine_events(truth, predicted, taxonomy)]


def threshold_counts(events: Events) -> Counts:
    """Sum events to the counts at every threshold, each clip counted once."""
    size = len(events.thresholds)
    gains = [np.bincount(events.threshold_index, weights=gain, minlength=size) for gain in events.gains]
    tp, fp, fn = np.cumsum(gains, axis=1).astype(np.int64)
    positives = int(np.count_nonzero(events.positive))
    return Counts(events.thresholds, tp, fp, events.missed.sum() + fn, positives=positives)


def compute_scores(counts: list[Counts], names: Sequence[str]) -> Scores:
    """Compute the official metrics from the counts and names of the categories (`Taxonomy.categories`)."""
    areas = [area_under_curve(*precision_recall(category)) for category in counts]
    present = [area for area, category in zip(areas, counts, strict=True) if category.positives]
    micro = micro_counts(counts)
    precision, recall = precision_recall(micro)
    at_half = last_at_least(micro.thresholds, DECISION_THRESHOLD)
    p, r = precision[at_half], recall[at_half]
    return Scores(
        micro_auprc=area_under_curve(precision, recall),
        micro_f1=float(2 / (1 / p + 1 / r)) if p > 0 and r > 0 else 0.0,
        macro_auprc=float(np.mean(areas)),
        macro_auprc_present=float(np.mean(present)) if present else 0.0,
        class_auprc=dict(zip(names, areas, strict=True)),
        class_positives={name: category.positives for name, category in zip(names, counts, strict=True)},
    )


def micro_counts(counts: list[Counts]) -> Counts:
    """Sum the counts of all categories at every distinct threshold of any of them, in descending order.

    A category without that threshold contributes its counts at its next higher one.
    """
    thresholds = np.concatenate([category.thresholds for category in counts])
    # Changes of each category's counts from one of its thresholds to the next lower, to be summed over all.
    gains = np.concatenate([np.diff(_stacked(category), prepend=0) for category in counts], axis=1)
    order = np.argsort(-thresholds, kind="stable")
    sums = np.cumsum(gains[:, order], axis=1)
    thresholds = thresholds[order]
    last = np.append(thresholds[1:] != thresholds[:-1], True)  # equal thresholds count together
    return Counts(thresholds[last], *sums[:, last], positives=sum(c.positives for c in counts))


def _stacked(counts: Counts) -> np.ndarray:
    """Stack the counts [shape=(3, thresholds)]."""
    return np.stack([counts.true_positive, counts.false_positive, counts.false_negative])


def precision_recall(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall [shape=(m,)] at the counts' thresholds; 0 where the denominator is 0."""
    return precision_recall_from_counts(counts.true_positive, counts.false_positive, counts.false_negative)


def precision_recall_from_counts(
    tp: np.ndarray, fp: np.ndarray, fn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall for counts of any shape; 0 where the denominator is 0."""
    return tp / np.maximum(tp + fp, 0.5), tp / np.maximum(tp + fn, 0.5)


def area_under_curve(precision: np.ndarray, recall: np.ndarray) -> float:
    """Return the area under the precision-recall curve, with end points (recall 0, precision 1) and (1, 0).

    Points of equal recall keep their order.
    """
    order = np.argsort(recall, kind="stable")
    recall = np.concatenate([[0.0], recall[order], [1.0]])
    precision = np.concatenate([[1.0], precision[order], [0.0]])
    return float(np.trapezoid(precision, recall))


def last_at_least(descending: np.ndarray, value: float) -> int:
    """Return the index of the lowest of descending thresholds that is at least `value`."""
    return int(np.searchsorted(-descending, -value, side="right")) - 1


def _events(truth: np.ndarray, truth_x: np.ndarray, predicted: np.ndarray, predicted_x: np.ndarray) -> Events:
    """Compute events from complete labels (clips, k) and the incomplete label (clips,) of a category."""
    thresholds, index = _threshold_indices(predicted)
    never = len(thresholds)
    any_truth = truth.any(axis=1)
    only_x = truth_x & ~any_truth
    has_intermediate = bool(truth_x.any() or predicted_x.max(initial=0.0) >= LOWEST_THRESHOLD)
    wrong = ~truth & ~truth_x[:, None]
    kinds = [  # threshold indices, clips, and changes of true positives, false positives and false negatives
        (index[truth], np.nonzero(truth)[0], (1, 0, -1)),
        (index[wrong], np.nonzero(wrong)[0], (0, 1, 0)),
    ]
    if has_intermediate:
        # The index of the highest threshold that a value reaches falls as the value rises.
        index_x = never - np.searchsorted(thresholds[::-1], predicted_x, side="right")
        clips = np.arange(len(truth))
        neither = ~truth_x & ~any_truth
        # A clip's highest prediction in the group, and the highest of its correct labels. Between these two
        # thresholds a label of the group is predicted, but no correct one.
        highest = np.minimum(index.min(axis=1, initial=never), index_x)
        highest_right = np.where(truth, index, never).min(axis=1, initial=never)
        # Without a label of the group in the truth, a predicted X is a false positive unless all complete
        # labels are predicted too.
        all_predicted = np.maximum(index.max(axis=1, initial=0), index_x)
        kinds += [
            (highest[truth_x], clips[truth_x], (1, 0, 0)),
            (highest_right[truth_x], clips[truth_x], (-1, 0, 0)),
            (highest[only_x], clips[only_x], (0, 0, -1)),
            (index_x[neither], clips[neither], (0, 1, 0)),
            (all_predicted[neither], clips[neither], (0, -1, 0)),
        ]
    threshold_index = np.concatenate([kind[0] for kind in kinds])
    clip = np.concatenate([kind[1] for kind in kinds])
    gains = np.repeat([kind[2] for kind in kinds], [len(kind[0]) for kind in kinds], axis=0).T
    reached = threshold_index < never
    predicted_index, predicted_clip = index.ravel(), np.arange(index.size) // max(index.shape[1], 1)
    counted = predicted_index < never
    return Events(
        thresholds,
        threshold_index[reached],
        clip[reached],
        gains[:, reached],
        missed=truth.sum(axis=1) + only_x,
        positive=truth_x | any_truth,
        predictions=np.stack([predicted_index[counted], predicted_clip[counted]]),
        has_intermediate=has_intermediate,
    )


def _threshold_indices(predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a category's thresholds and the index of the highest one that each prediction reaches.

    The thresholds are the distinct predictions from `LOWEST_THRESHOLD` on, and 1, in descending order. The
    index of a lower prediction is the number of thresholds.
    """
    values, inverse = np.unique(predicted, return_inverse=True)
    thresholds = values[values >= LOWEST_THRESHOLD][::-1]
    first = int(not len(thresholds) or thresholds[0] < 1)
    index = len(values) - 1 - inverse.reshape(predicted.shape) + first
    thresholds = np.concatenate([[1.0][:first], thresholds])
    return thresholds, np.minimum(index, len(thresholds))
