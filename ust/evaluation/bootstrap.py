"""How sure a figure is: bootstrap resamples over clips, or over the sensors that recorded them.

A resample counts each clip as often as it was drawn. Where none of a threshold's clips is among the drawn,
the counts are those of the threshold above, which changes no area.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from scipy.sparse import csr_array

from ust.evaluation.metrics import DECISION_THRESHOLD, Events, last_at_least, ratios
from ust.util.seeding import random_stream

UNITS = ("clips", "sensors")
CONFIDENCE = 0.95
TOGETHER = 32  # resamples at a time: their counts at all thresholds stay in a core's cache


def resamples(sensors: np.ndarray, *, unit: str, count: int, seed: int) -> Iterator[np.ndarray]:
    """Indices of resampled clips.

    Parameters
    ----------
    sensors : numpy.ndarray [shape=(clips,)]
        The sensor of each clip.
    unit : {"clips", "sensors"}
        What is drawn with replacement. Clips of a sensor are not independent, so drawing whole sensors is
        the more honest, and with few of them the coarser way.
    count, seed : int

    Yields
    ------
    numpy.ndarray [shape=(n,), int64]
        Of as many clips as there are; with sensors, of those the drawn sensors have.
    """
    rng = random_stream(seed, "bootstrap", unit)
    if unit == "clips":
        for _ in range(count):
            yield rng.integers(0, len(sensors), len(sensors))
        return
    members = [np.flatnonzero(sensors == sensor) for sensor in np.unique(sensors)]
    for _ in range(count):
        yield np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])


def interval(values: np.ndarray) -> list[float]:
    """The central 95 % of the values, by percentiles: [low, high]."""
    tail = (1 - CONFIDENCE) / 2
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]


def resampled_scores(categories: list[Events], draws: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """The official figures of a level over resamples.

    Parameters
    ----------
    categories : list of Events
    draws : iterable of numpy.ndarray
        Clip indices, as `resamples` yields them.

    Returns
    -------
    dict of str to numpy.ndarray [shape=(resamples,)]
        ``micro_auprc``, ``micro_f1``, ``macro_auprc``, ``macro_auprc_present``, and ``class_auprc`` of
        [shape=(resamples, categories)].
    """
    thresholds = np.concatenate([events.thresholds for events in categories])
    order = np.argsort(-thresholds, kind="stable")
    descending = thresholds[order]
    last = np.flatnonzero(np.append(descending[1:] != descending[:-1], True))  # equal ones count together
    at_half = last_at_least(descending[last], DECISION_THRESHOLD)
    matrices = [_matrices(events) for events in categories]
    clips = len(categories[0].missed)
    parts, draws = [], iter(draws)
    while some := list(islice(draws, TOGETHER)):
        weights = np.stack([np.bincount(draw, minlength=clips) for draw in some], axis=1).astype(np.float64)
        counts = [_counts(*each, weights) for each in zip(categories, matrices, strict=True)]
        areas = np.stack([_areas(*ratios(*three)) for three in counts], axis=1)
        present = np.stack([events.positive @ weights > 0 for events in categories], axis=1)
        # What each category gains at each of its thresholds, added up over all, from the highest down.
        micro = []
        for several in zip(*counts, strict=True):
            gains = np.concatenate([np.diff(one, axis=0, prepend=0.0) for one in several])[order]
            micro.append(np.cumsum(gains, axis=0)[last])
        precision, recall = ratios(*micro)
        p, r = precision[at_half], recall[at_half]
        both = (p > 0) & (r > 0)
        parts.append(
            {
                "micro_auprc": _areas(precision, recall),
                "micro_f1": np.where(both, 2 * p * r / np.where(both, p + r, 1), 0.0),
                "macro_auprc": areas.mean(axis=1),
                "macro_auprc_present": (areas * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1),
                "class_auprc": areas,
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _matrices(events: Events) -> tuple[csr_array, ...]:
    """From clips' weights to thresholds' gains, and last to predictions [shape=(thresholds, clips)]."""
    shape = len(events.thresholds), len(events.missed)
    found = [csr_array((gain.astype(float), (events.place, events.clip)), shape) for gain in events.gains]
    places, clips = events.of_prediction
    return *found, csr_array((np.ones(len(places)), (places, clips)), shape)


def _counts(
    events: Events, matrices: tuple[csr_array, ...], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives and false negatives of weighted clips [shape=(thresholds, resamples)]."""
    *gains, predictions = matrices
    tp, fp, fewer = (np.cumsum(gain @ weights, axis=0) for gain in gains)
    if events.between:
        there = predictions @ weights > 0  # whether a threshold's clips are among the drawn
        there[0] = True
        # All three only grow as the threshold falls (false negatives by what is negative).
        tp, fp, fewer = (np.maximum.accumulate(np.where(there, x, 0), axis=0) for x in (tp, fp, -fewer))
        fewer = -fewer
    return tp, fp, events.missed @ weights + fewer


def _areas(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return the area under each curve [shape=(thresholds, resamples)], see `ust.evaluation.metrics.area`.

    Recall never falls with the threshold, so that there is nothing to sort.
    """
    inner = ((precision[1:] + precision[:-1]) * np.diff(recall, axis=0)).sum(axis=0)
    return (inner + (1 + precision[0]) * recall[0] + precision[-1] * (1 - recall[-1])) / 2
