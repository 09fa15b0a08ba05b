"""The threshold that is best for each label."""

import numpy as np


def best_thresholds(truth: np.ndarray, predicted: np.ndarray, labels: list[str]) -> dict[str, float]:
    """By label, the threshold at which F1 is highest: to be chosen on clips that are not scored.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, labels)]
        A label counts as there when its truth is over one half, for soft labels.

    Returns
    -------
    dict of str to float
        The highest of equally good thresholds; 0.5 for labels without positives.
    """
    found = {}
    for column, label in enumerate(labels):
        y = truth[:, column] > 0.5
        order = np.argsort(-predicted[:, column], kind="stable")
        values = predicted[order, column]
        tp = np.cumsum(y[order])
        f1 = 2 * tp / (np.arange(1, len(y) + 1) + y.sum())
        last = np.append(values[1:] < values[:-1], True)  # equal values are predicted together
        best = int(np.argmax(np.where(last, f1, -1)))
        found[label] = float(values[best]) if y.any() else 0.5
    return found
