"""Bootstrap confidence intervals, resampling clips or the sensors that recorded them.

A resample weights each clip by the number of times it is drawn. A threshold without any drawn clip takes the
counts of the next higher threshold, which leaves the area under the curve unchanged.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from scipy.sparse import csr_array

from ust.evaluation.metrics import DECISION_THRESHOLD, Events, last_at_least, precision_recall_from_counts
from ust.util.seeding import random_stream

UNITS = ("clips", "sensors")
CONFIDENCE = 0.95
# Thresholds of all categories times resamples of a batch, so that their counts fit in a core's cache.
BATCH_CELLS = 80_000
HIDDEN = np.int32(2**30)  # above every count


def draw_resamples(sensors: np.ndarray, *, unit: str, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the clip indices of bootstrap resamples."""
    rng = random_stream(seed, "bootstrap", unit)
    if unit == "clips":
        for _ in range(count):
            yield rng.integers(0, len(sensors), len(sensors))
        return
    members = [np.flatnonzero(sensors == sensor) for sensor in np.unique(sensors)]
    for _ in range(count):
        yield np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])


def confidence_interval(values: np.ndarray) -> list[float]:
    """Return the central 95 % of the values, between percentiles, as [low, high]."""
    tail = (1 - CONFIDENCE) / 2
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]


def bootstrap_scores(categories: list[Events], draws: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Compute the official metrics of a level on each resample.

    Parameters
    ----------
    draws : iterable of numpy.ndarray
        Clip indices, as `draw_resamples` yields them.

    Returns
    -------
    dict of str to numpy.ndarray [shape=(resamples,)]
        ``micro_auprc``, ``micro_f1``, ``macro_auprc``, ``macro_auprc_present``, and ``class_auprc`` of
        [shape=(resamples, categories)].
    """
    maps = _CountMaps.from_categories(categories)
    at_half = last_at_least(maps.thresholds, DECISION_THRESHOLD)
    positive = np.stack([events.positive for events in categories]).astype(np.int32)
    size = max(1, BATCH_CELLS // maps.merge.shape[1])
    results, draws = [], iter(draws)
    while batch := list(islice(draws, size)):
        copies = [np.bincount(draw, minlength=positive.shape[1]) for draw in batch]
        weights = np.stack(copies, axis=1).astype(np.int32)
        counts = maps.counts(weights)
        areas = _areas(*precision_recall_from_counts(*counts), maps.starts).T
        micro = [np.cumsum(maps.merge @ count, axis=0, dtype=np.int32) for count in counts]
        precision, recall = precision_recall_from_counts(*micro)
        p, r = precision[at_half], recall[at_half]
        defined = (p > 0) & (r > 0)
        present = (positive @ weights > 0).T
        results.append(
            {
                "micro_auprc": _areas(precision, recall, np.array([0]))[0],
                "micro_f1": np.where(defined, 2 * p * r / np.where(defined, p + r, 1), 0.0),
                "macro_auprc": areas.mean(axis=1),
                "macro_auprc_present": (areas * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1),
                "class_auprc": areas,
            }
        )
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


@dataclass(frozen=True)
class _CountMaps:
    """Linear maps from the weights of clips to the counts of a level.

    A row is a threshold of a category; the rows of all categories follow each other.
    """

    starts: np.ndarray  # (categories,): first row of each category
    # (rows, clips): changes of true positives, false positives and false negatives from the row above. The
    # first row of a category also has the false negatives when nothing is predicted.
    gains: tuple[csr_array, csr_array, csr_array]
    predictions: csr_array  # (rows, clips): number of predicted values at the row's threshold
    has_intermediate: tuple[bool, ...]  # by category, see `ust.evaluation.metrics.Events`
    thresholds: np.ndarray  # distinct thresholds of all categories, descending
    # (thresholds, rows): from the counts of all rows to the changes of their sum at each distinct threshold
    merge: csr_array

    @classmethod
    def from_categories(cls, categories: list[Events]) -> "_CountMaps":
        """Build the maps of a level."""
        clips = np.arange(len(categories[0].missed))
        starts = np.cumsum([0, *(len(events.thresholds) for events in categories)])
        starts, size = starts[:-1], starts[-1]
        by_start = list(zip(starts, categories, strict=True))
        row = np.concatenate([start + events.threshold_index for start, events in by_start])
        clip = np.concatenate([events.clip for events in categories])
        tp, fp, fn = np.concatenate([events.gains for events in categories], axis=1)
        # All false negatives of a clip when nothing is predicted are a change in the first row.
        fn = np.concatenate([fn, *(events.missed for events in categories)])
        fn_row = np.append(row, np.repeat(starts, len(clips)))
        fn_clip = np.append(clip, np.tile(clips, len(starts)))
        predicted_row = np.concatenate([start + events.predictions[0] for start, events in by_start])
        predicted_clip = np.concatenate([events.predictions[1] for events in categories])
        thresholds = np.concatenate([events.thresholds for events in categories])
        ascending, index = np.unique(-thresholds, return_inverse=True)
        # At the index of its threshold, each row adds its counts and subtracts those of the row above in the
        # same category.
        rows, later = np.arange(size), np.setdiff1d(np.arange(size), starts)
        changes = np.repeat([1, -1], [size, len(later)])
        return cls(
            starts,
            (
                _sparse(tp, row, clip, (size, len(clips))),
                _sparse(fp, row, clip, (size, len(clips))),
                _sparse(fn, fn_row, fn_clip, (size, len(clips))),
            ),
            _sparse(np.ones(len(predicted_row)), predicted_row, predicted_clip, (size, len(clips))),
            tuple(events.has_intermediate for events in categories),
            -ascending,
            _sparse(
                changes, np.append(index, index[later]), np.append(rows, later - 1), (len(ascending), size)
            ),
        )

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return weighted true and false positives and false negatives [shape=(rows, resamples)]."""
        tp, fp, fn = (gain @ weights for gain in self.gains)
        if any(self.has_intermediate):
            hidden = HIDDEN * (self.predictions @ weights == 0)
            hidden[self.starts] = 0  # a category always has the threshold 1
        ends = [*self.starts[1:], len(tp)]
        for start, end, has_intermediate in zip(self.starts, ends, self.has_intermediate, strict=True):
            rows = slice(start, end)
            for count in (tp, fp, fn):
                np.cumsum(count[rows], axis=0, out=count[rows])
            if has_intermediate:
                # Positives grow as the threshold falls, false negatives shrink. A row without drawn clips
                # takes the counts of the next row above that has any.
                np.maximum.accumulate(tp[rows] - hidden[rows], axis=0, out=tp[rows])
                np.maximum.accumulate(fp[rows] - hidden[rows], axis=0, out=fp[rows])
                np.minimum.accumulate(fn[rows] + hidden[rows], axis=0, out=fn[rows])
        return tp, fp, fn


def _sparse(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """Return a sparse matrix of sums; sums of integers are several times faster than those of floats."""
    matrix = csr_array((values.astype(np.int32), (rows, columns)), shape)
    matrix.eliminate_zeros()
    return matrix


def _areas(precision: np.ndarray, recall: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the area under each curve [shape=(curves, resamples)], as `area_under_curve` computes it.

    The points of the curves [shape=(rows, resamples)] follow each other, from the rows `starts` on. Recall
    never falls as the threshold falls, so the points need no sorting.
    """
    last = np.append(starts[1:], len(recall)) - 1
    doubled = np.empty_like(recall)
    doubled[1:] = (precision[1:] + precision[:-1]) * np.diff(recall, axis=0)
    doubled[starts] = (1 + precision[starts]) * recall[starts]
    areas = np.add.reduceat(doubled, starts, axis=0)
    return (areas + precision[last] * (1 - recall[last])) / 2
