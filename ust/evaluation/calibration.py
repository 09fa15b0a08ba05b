"""Platt scaling of predicted probabilities, and the choice of decision thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit

MIN_PROBABILITY = 1e-6  # probabilities are clipped to it, so that logits are finite
REGULARIZATION = 5.0  # L2 penalty on each label's deviation from the shared scale and shift
MIN_SCALE = 0.05  # keeps the order of the predictions of a label that carry no information


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: each label's logit times a scale plus a shift.

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
        """Calibrate predicted probabilities [shape=(clips, labels)]."""
        return expit(_logit(predicted) * self.scale + self.shift)

    def select_labels(self, labels: Sequence[str], names: Sequence[str]) -> "Calibration":
        """Return the calibration of the labels in `names`; `labels` names this one's."""
        columns = [list(labels).index(name) for name in names]
        return Calibration(self.scale[columns], self.shift[columns])

    def invert(self, calibrated: np.ndarray) -> np.ndarray:
        """Return the uncalibrated probabilities that give the calibrated ones."""
        return expit((_logit(calibrated) - self.shift) / self.scale)

    def to_dict(self) -> dict[str, list[float]]:
        """Return scale and shift as lists, for JSON."""
        return {"scale": self.scale.tolist(), "shift": self.shift.tolist()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Calibration":
        """Build a calibration from the result of `to_dict`."""
        return cls(np.array(content["scale"]), np.array(content["shift"]))


def fit_calibration(predicted: np.ndarray, targets: np.ndarray) -> Calibration:
    """Fit Platt scaling by maximum likelihood on held-out predictions.

    All labels share one scale and one shift. Each label deviates from them by as much as its own clips
    support (an L2 penalty on the deviations).

    Parameters
    ----------
    predicted : numpy.ndarray [shape=(clips, labels)]
        Probabilities of clips that the network was not trained on, such as out-of-fold predictions.
    targets : numpy.ndarray [shape=(clips, labels)]
        From 0 to 1; NaN, which is left out, if a label is not known.
    """
    from scipy.optimize import minimize  # slow to import: half a second for every training

    y = np.asarray(targets, np.float64)
    known, y = ~np.isnan(y), np.nan_to_num(y)
    x = np.stack([_logit(predicted), np.ones(y.shape)])  # (2, clips, labels)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        shared, deviations = parameters[:2], parameters[2:].reshape(2, -1)
        logits = (x * (shared[:, None] + deviations)[:, None]).sum(axis=0)
        value = (known * (np.logaddexp(0, logits) - y * logits)).sum()
        value += REGULARIZATION / 2 * (deviations**2).sum()
        gradient = (x * known * (expit(logits) - y)).sum(axis=1)
        of_deviations = gradient + REGULARIZATION * deviations
        return value, np.concatenate([gradient.sum(axis=1), of_deviations.ravel()])

    start = np.zeros(2 * (1 + y.shape[1]))
    start[0] = 1.0
    solution = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    scale, shift = solution[:2, None] + solution[2:].reshape(2, -1)
    return Calibration(np.maximum(scale, MIN_SCALE), shift)


def best_thresholds(truth: np.ndarray, predicted: np.ndarray, labels: list[str]) -> dict[str, float]:
    """Return, for each label, the threshold with the highest F1.

    Choose thresholds on clips other than those that are evaluated.

    Parameters
    ----------
    truth : numpy.ndarray [shape=(clips, labels)]
        A soft label counts as positive above 0.5. NaN is left out.
    predicted : numpy.ndarray [shape=(clips, labels)]
        Probabilities.
    labels : list of str
        Names of the columns.

    Returns
    -------
    dict of str to float
        The highest of equally good thresholds; 0.5 for a label without positives or without a probability
        above 0.
    """
    thresholds = {}
    for column, label in enumerate(labels):
        known = ~np.isnan(truth[:, column])
        y, p = truth[known, column] > 0.5, predicted[known, column]
        thresholds[label] = highest_f1_threshold(y, p) if y.any() and p.any() else 0.5
    return thresholds


def highest_f1_threshold(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the threshold on predictions (n,) with the highest F1 for a boolean truth (n,)."""
    order = np.argsort(-predicted, kind="stable")
    values, tp = predicted[order], np.cumsum(truth[order])
    f1 = 2 * tp / (np.arange(1, len(truth) + 1) + truth.sum())
    last = np.append(values[1:] < values[:-1], True)  # equal values are predicted together
    return float(values[np.argmax(np.where(last, f1, -1))])


def _logit(p: np.ndarray) -> np.ndarray:
    """Return the logit of clipped probabilities."""
    return logit(np.clip(np.asarray(p, np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY))
