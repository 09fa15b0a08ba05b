"""Average precision of many weightings of the same predictions, such as bootstrap resamples."""

import numpy as np


def average_precision(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the average precision of one label for several weightings of the clips.

    Equal to `sklearn.metrics.average_precision_score` with sample weights, but computed for a thousand
    resamples at once. A constant prediction scores the share of positives.

    Parameters
    ----------
    truth : numpy.ndarray [shape=(clips,)]
        Whether the label is present.
    predicted : numpy.ndarray [shape=(clips,)]
        Predicted probabilities, in any monotonic scale.
    weights : numpy.ndarray [shape=(weightings, clips)]
        Weight of each clip; in a bootstrap resample, how often it was drawn.

    Returns
    -------
    numpy.ndarray [shape=(weightings,)]
        Average precision in [0, 1]; NaN without positives.

    Examples
    --------
    >>> truth, predicted = np.array([1, 0, 1]), np.array([0.9, 0.6, 0.3])
    >>> average_precision(truth, predicted, np.array([[1, 1, 1], [1, 0, 1]])).round(3).tolist()
    [0.833, 1.0]
    """
    order = np.argsort(-predicted, kind="stable")
    ordered, weights = predicted[order], weights[:, order]
    last = np.append(ordered[1:] < ordered[:-1], True)  # equal predictions count together
    tp = np.cumsum(weights * truth[order], axis=1)[:, last]
    precision = tp / np.maximum(np.cumsum(weights, axis=1)[:, last], 1e-12)
    with np.errstate(invalid="ignore"):
        return (np.diff(tp, axis=1, prepend=0) * precision).sum(axis=1) / tp[:, -1]
