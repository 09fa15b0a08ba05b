"""Probabilities that mean what they say, and where to draw the line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SMALLEST = 1e-6  # probability whose logit counts
STRENGTH = 5.0  # how much more it takes for a label to have a calibration unlike the others'
FLATTEST = 0.05  # scale of a label whose predictions say nothing, so that their order stays


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: for each label, logits times a scale plus a shift.

    Attributes
    ----------
    scale, shift : numpy.ndarray [shape=(labels,)]

    References
    ----------
    Platt, Probabilistic Outputs for Support Vector Machines, 1999; Guo et al., On Calibration of Modern
    Neural Networks, ICML 2017.
    """

    scale: np.ndarray
    shift: np.ndarray

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of those [shape=(clips, labels)] that a network gives."""
        return _sigmoid(_logit(predicted) * self.scale + self.shift)

    def of_labels(self, labels: Sequence[str], names: Sequence[str]) -> "Calibration":
        """That of some of its labels, by their names."""
        columns = [list(labels).index(name) for name in names]
        return Calibration(self.scale[columns], self.shift[columns])

    def undo(self, calibrated: np.ndarray) -> np.ndarray:
        """What a network gave, of calibrated probabilities."""
        return _sigmoid((_logit(calibrated) - self.shift) / self.scale)

    def as_lists(self) -> dict[str, list[float]]:
        """For JSON."""
        return {"scale": self.scale.tolist(), "shift": self.shift.tolist()}

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Calibration":
        """Of what `as_lists` gives."""
        return cls(np.array(content["scale"]), np.array(content["shift"]))


def fit_calibration(predicted: np.ndarray, targets: np.ndarray) -> Calibration:
    """The calibration under which held-out targets are most likely.

    Labels share a scale and a shift; each departs from them as far as its own clips give reason to.

    Parameters
    ----------
    predicted, targets : numpy.ndarray [shape=(clips, labels)]
        Probabilities of clips that were not learnt from, and what was there, from 0 to 1.
    """
    from scipy.optimize import minimize  # takes half a second that every training would wait for

    z, y = _logit(predicted), np.asarray(targets, np.float64)
    labels = z.shape[1]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, shift = parameters[0], parameters[1]
        own_scale, own_shift = parameters[2 : 2 + labels], parameters[2 + labels :]
        logits = z * (scale + own_scale) + shift + own_shift
        value = (np.logaddexp(0, logits) - y * logits).sum()
        value += STRENGTH / 2 * (own_scale @ own_scale + own_shift @ own_shift)
        error = _sigmoid(logits) - y
        by_scale, by_shift = (error * z).sum(axis=0), error.sum(axis=0)
        of_labels = [by_scale + STRENGTH * own_scale, by_shift + STRENGTH * own_shift]
        return value, np.concatenate([[by_scale.sum(), by_shift.sum()], *of_labels])

    start = np.concatenate([[1.0, 0.0], np.zeros(2 * labels)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    scale = np.maximum(found[0] + found[2 : 2 + labels], FLATTEST)
    return Calibration(scale, found[1] + found[2 + labels :])


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


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(np.asarray(p, np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(p) - np.log1p(-p)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))
