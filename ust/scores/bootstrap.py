"""How sure a figure is: bootstrap resamples over clips, or over the sensors that recorded them."""

from collections.abc import Callable, Iterator

import numpy as np

from ust.files.seeding import generator

UNITS = ("clips", "sensors")
CONFIDENCE = 0.95

Figures = dict[str, float]


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
    rng = generator(seed, "bootstrap", unit)
    if unit == "clips":
        for _ in range(count):
            yield rng.integers(0, len(sensors), len(sensors))
        return
    members = [np.flatnonzero(sensors == sensor) for sensor in np.unique(sensors)]
    for _ in range(count):
        yield np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])


def distribution(
    figures: Callable[[np.ndarray], Figures], draws: Iterator[np.ndarray]
) -> dict[str, np.ndarray]:
    """Every figure over the resamples.

    Parameters
    ----------
    figures : callable
        From clip indices to named figures.
    draws : iterator of numpy.ndarray
        As `resamples` yields them.

    Returns
    -------
    dict of str to numpy.ndarray [shape=(count,)]
    """
    rows = [figures(indices) for indices in draws]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def interval(values: np.ndarray) -> list[float]:
    """The central 95 % of the values, by percentiles: [low, high]."""
    tail = (1 - CONFIDENCE) / 2
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]
