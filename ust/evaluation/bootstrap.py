"""Bootstrap confidence intervals, resampling clips or the sensors that recorded them.

A resample weights each clip by how often it was drawn. A threshold of which no clip was drawn takes the
counts of the next higher threshold, which leaves the area under the curve unchanged.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from scipy.sparse import csr_array

from ust.evaluation.metrics import DECISION_THRESHOLD, Events, last_at_least, precision_recall_from_counts
from ust.util.seeding import random_stream

UNITS = ("clips", "sensors")
CONFIDENCE = 0.95
BATCH = 32  # resamples at a time: their counts at all thresholds stay in a core's cache


def draw_resamples(sensors: np.ndarray, *, unit: str, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the clip indices of bootstrap resamples.

    Parameters
    ----------
    sensors : numpy.ndarray [shape=(clips,)]
        The sensor of each clip.
    unit : {"clips", "sensors"}
        Unit drawn with replacement. Clips of one sensor are not independent, so resampling whole sensors
        gives the more honest intervals, but coarse ones where there are few sensors.
    count : int
        Number of resamples.
    seed : int

    Yields
    ------
    numpy.ndarray [shape=(n,), int64]
        Clip indices. With "clips", n is the number of clips; with "sensors", it is the number of clips that
        the drawn sensors have.
    """
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
    categories : list of Events
    draws : iterable of numpy.ndarray
        Clip indices, as `draw_resamples` yields them.

    Returns
    -------
    dict of str to numpy.ndarray [shape=(resamples,)]
        ``micro_auprc``, ``micro_f1``, ``macro_auprc``, ``macro_auprc_present``, and ``class_auprc`` of
        [shape=(resamples, categories)].
    """
    thresholds = np.concatenate([events.thresholds for events in categories])
    order = np.argsort(-thresholds, kind="stable")
    descending = thresholds[order]
    # Equal thresholds count together.
    last = np.flatnonzero(np.append(descending[1:] != descending[:-1], True))
    at_half = last_at_least(descending[last], DECISION_THRESHOLD)
    matrices = [_matrices(events) for events in categories]
    clips = len(categories[0].missed)
    results, draws = [], iter(draws)
    while batch := list(islice(draws, BATCH)):
        weights = np.stack([np.bincount(draw, minlength=clips) for draw in batch], axis=1).astype(np.float64)
        counts = [
            _counts(events, event_matrices, weights)
            for events, event_matrices in zip(categories, matrices, strict=True)
        ]
        curves = [precision_recall_from_counts(*category_counts) for category_counts in counts]
        areas = np.stack([_areas(*curve) for curve in curves], axis=1)
        present = np.stack([events.positive @ weights > 0 for events in categories], axis=1)
        # Changes of each category's counts at its thresholds, summed over categories in descending order.
        micro = []
        for counts_by_category in zip(*counts, strict=True):
            changes = [np.diff(count, axis=0, prepend=0.0) for count in counts_by_category]
            micro.append(np.cumsum(np.concatenate(changes)[order], axis=0)[last])
        precision, recall = precision_recall_from_counts(*micro)
        p, r = precision[at_half], recall[at_half]
        defined = (p > 0) & (r > 0)
        results.append(
            {
                "micro_auprc": _areas(precision, recall),
                "micro_f1": np.where(defined, 2 * p * r / np.where(defined, p + r, 1), 0.0),
                "macro_auprc": areas.mean(axis=1),
                "macro_auprc_present": (areas * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1),
                "class_auprc": areas,
            }
        )
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


def _matrices(events: Events) -> tuple[csr_array, ...]:
    """Return sparse maps from clip weights to count changes and predictions [shape=(thresholds, clips)].

    The last one maps them to the weight of the predictions at each threshold.
    """
    shape = len(events.thresholds), len(events.missed)
    matrices = [
        csr_array((gain.astype(float), (events.threshold_index, events.clip)), shape) for gain in events.gains
    ]
    places, clips = events.predictions
    return *matrices, csr_array((np.ones(len(places)), (places, clips)), shape)


def _counts(
    events: Events, matrices: tuple[csr_array, ...], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weighted true and false positives and false negatives [shape=(thresholds, resamples)]."""
    *gains, predictions = matrices
    tp, fp, fn_change = (np.cumsum(gain @ weights, axis=0) for gain in gains)
    if events.has_intermediate:
        drawn = predictions @ weights > 0  # whether a clip of the threshold was drawn
        drawn[0] = True
        # Counts are monotonic in the threshold: positives grow as it falls, false negatives shrink.
        tp, fp, fn_change = (
            np.maximum.accumulate(np.where(drawn, x, 0), axis=0) for x in (tp, fp, -fn_change)
        )
        fn_change = -fn_change
    return tp, fp, events.missed @ weights + fn_change


def _areas(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return the area under each curve [shape=(thresholds, resamples)], as `area_under_curve` computes it.

    Recall never falls as the threshold falls, so the points need no sorting.
    """
    inner = ((precision[1:] + precision[:-1]) * np.diff(recall, axis=0)).sum(axis=0)
    return (inner + (1 + precision[0]) * recall[0] + precision[-1] * (1 - recall[-1])) / 2
