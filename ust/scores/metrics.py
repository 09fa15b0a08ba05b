"""The official metrics of DCASE 2019 Task 5, for all thresholds at once.

Precision and recall are taken per coarse category over all thresholds; an uncertain ``-X`` label in the
ground truth accepts any prediction of its group. Counts at every threshold come from sorting and cumulative
counts, not from a loop over thresholds; the loop is kept in the tests as the oracle.
"""

from dataclasses import dataclass

import numpy as np

from ust.annotations.taxonomy import Taxonomy

LOWEST_THRESHOLD = 0.01
DECISION_THRESHOLD = 0.5


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


def coarse_counts(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Counts]:
    """Counts of each coarse category.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, coarse labels)]
        Ground truth (1 where heard) and probabilities.
    """
    return [_coarse_counts(truth[:, g] == 1, predicted[:, g]) for g in range(len(taxonomy.coarse))]


def fine_counts(truth: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> list[Counts]:
    """Counts of each coarse category over its fine labels.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, fine labels)]
        Ground truth (1 where heard) and probabilities.
    """
    counts = []
    for g in range(len(taxonomy.coarse)):
        complete, x = taxonomy.complete(g), taxonomy.incomplete(g)
        truth_x = truth[:, x] == 1 if x is not None else np.zeros(len(truth), bool)
        predicted_x = predicted[:, x] if x is not None else np.zeros(len(truth))
        counts.append(_fine_counts(truth[:, complete] == 1, truth_x, predicted[:, complete], predicted_x))
    return counts


def score(counts: list[Counts], taxonomy: Taxonomy) -> Scores:
    """The official figures from the categories' counts, in taxonomy order."""
    names = [taxonomy.coarse_name(g) for g in range(len(counts))]
    areas = [_area(*precision_recall(category)) for category in counts]
    present = [area for area, category in zip(areas, counts, strict=True) if category.positives]
    micro = micro_counts(counts)
    precision, recall = precision_recall(micro)
    at_half = np.searchsorted(micro.thresholds, DECISION_THRESHOLD)
    p, r = precision[at_half], recall[at_half]
    return Scores(
        micro_auprc=_area(precision, recall),
        micro_f1=float(2 / (1 / p + 1 / r)) if p > 0 and r > 0 else 0.0,
        macro_auprc=float(np.mean(areas)),
        macro_auprc_present=float(np.mean(present)) if present else 0.0,
        class_auprc=dict(zip(names, areas, strict=True)),
        class_positives={name: category.positives for name, category in zip(names, counts, strict=True)},
    )


def micro_counts(counts: list[Counts]) -> Counts:
    """Counts added over categories at every distinct threshold of any of them, ascending.

    Each category counts at its lowest own threshold that is not below.
    """
    thresholds = np.concatenate([category.thresholds for category in counts])
    # What each category's counts gain at each of its thresholds, from the highest down; added up over all.
    gains = np.concatenate([np.diff(_stacked(category), prepend=0) for category in counts], axis=1)
    order = np.argsort(-thresholds)
    sums = np.cumsum(gains[:, order], axis=1)
    thresholds = thresholds[order]
    last = np.append(thresholds[1:] != thresholds[:-1], True)  # equal thresholds count together
    ascending = np.flatnonzero(last)[::-1]
    return Counts(thresholds[ascending], *sums[:, ascending], positives=sum(c.positives for c in counts))


def _stacked(counts: Counts) -> np.ndarray:
    return np.stack([counts.true_positive, counts.false_positive, counts.false_negative])


def precision_recall(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall [shape=(m,)] at the counts' thresholds; 0 where there is nothing to divide by."""
    tp, fp, fn = counts.true_positive, counts.false_positive, counts.false_negative
    return tp / np.maximum(tp + fp, 0.5), tp / np.maximum(tp + fn, 0.5)


def _area(precision: np.ndarray, recall: np.ndarray) -> float:
    # numpy's default, unstable sort: the official code's figures depend on how it orders equal recalls.
    order = np.argsort(recall)
    recall = np.concatenate([[0.0], recall[order], [1.0]])
    precision = np.concatenate([[1.0], precision[order], [0.0]])
    return float(np.trapezoid(precision, recall))


def _thresholds(predicted: np.ndarray) -> np.ndarray:
    values = np.unique(predicted)
    return np.unique(np.append(values[values >= LOWEST_THRESHOLD], 1.0))[::-1]


def _at_least(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the values reach each threshold."""
    # Looked up in ascending order: neighbours are found near one another, which is twice as fast.
    return len(values) - np.searchsorted(np.sort(values, axis=None), thresholds[::-1])[::-1]


def _coarse_counts(truth: np.ndarray, predicted: np.ndarray) -> Counts:
    thresholds = _thresholds(predicted)
    tp = _at_least(predicted[truth], thresholds)
    fp = _at_least(predicted[~truth], thresholds)
    return Counts(thresholds, tp, fp, truth.sum() - tp, positives=int(truth.sum()))


def _fine_counts(
    truth: np.ndarray, truth_x: np.ndarray, predicted: np.ndarray, predicted_x: np.ndarray
) -> Counts:
    """Counts over the complete labels (clips, k) and the incomplete one (clips,), see the module's head."""
    thresholds = _thresholds(predicted)
    any_truth = truth.any(axis=1)
    tp = _at_least(predicted[truth], thresholds)
    fn = truth.sum() - tp
    fp = _at_least(predicted[~truth & ~truth_x[:, None]], thresholds)

    # A clip's highest value of the group, and its highest that is right: between the two, something of the
    # group is predicted, but nothing of it right.
    highest = np.maximum(predicted.max(axis=1, initial=0.0), predicted_x)
    highest_right = np.where(truth, predicted, -1.0).max(axis=1, initial=-1.0)
    tp = tp + _at_least(highest[truth_x], thresholds) - _at_least(highest_right[truth_x], thresholds)
    only_x = truth_x & ~any_truth
    fn = fn + only_x.sum() - _at_least(highest[only_x], thresholds)
    # Where nothing of the group is there, a predicted X counts unless all complete labels are predicted too.
    neither = ~truth_x & ~any_truth
    lowest = predicted.min(axis=1, initial=np.inf)
    all_predicted = np.minimum(lowest, predicted_x)
    fp = fp + _at_least(predicted_x[neither], thresholds) - _at_least(all_predicted[neither], thresholds)
    return Counts(thresholds, tp, fp, fn, positives=int((truth_x | any_truth).sum()))
