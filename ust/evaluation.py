"""From predictions and ground truth to figures with error bars."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, roc_auc_score

from ust.bootstrap import UNITS, Figures, distribution, interval, resamples
from ust.console import log
from ust.metrics import Counts, Scores, coarse_counts, fine_counts, score
from ust.predictions import read_predictions
from ust.taxonomy import Taxonomy

COUNTERS = {"fine": fine_counts, "coarse": coarse_counts}
HEADLINES = ("micro_auprc", "micro_f1", "macro_auprc", "macro_auprc_present")


class Evaluation:
    """Predictions of a split beside its ground truth.

    Parameters
    ----------
    truth, predicted : pandas.DataFrame
        A column per label, rows of the same clips in the same order; `truth` also has ``sensor_id``.
    taxonomy : Taxonomy
    """

    def __init__(self, truth: pd.DataFrame, predicted: pd.DataFrame, taxonomy: Taxonomy) -> None:
        labels = {"fine": list(taxonomy.fine), "coarse": list(taxonomy.coarse)}
        self.taxonomy = taxonomy
        self.sensors = truth["sensor_id"].to_numpy()
        self.truth = {level: (truth[names] == 1).to_numpy(np.int8) for level, names in labels.items()}
        self.predicted = {level: predicted[names].to_numpy(np.float64) for level, names in labels.items()}

    @classmethod
    def read(
        cls, path: Path, truth: pd.DataFrame, taxonomy: Taxonomy, *, others: Iterable[str] = ()
    ) -> "Evaluation":
        """Read a CSV of predictions for the clips of `truth`; those for `others` are left out.

        A label without a column is taken as 0, and a warning says so.

        Raises
        ------
        UserError
            As `ust.predictions.read_predictions`.
        """
        predicted, missing = read_predictions(path, list(truth["audio_filename"]), taxonomy, others=others)
        if missing:
            log.warning("warning: %s has no column for %s; taken as 0", path, ", ".join(missing))
        return cls(truth, predicted, taxonomy)

    def counts(self, level: str, clips: np.ndarray | slice = slice(None)) -> list[Counts]:
        """Counts of each category over (resampled) clips."""
        return COUNTERS[level](self.truth[level][clips], self.predicted[level][clips], self.taxonomy)

    def scores(self, level: str, clips: np.ndarray | slice = slice(None)) -> Scores:
        """The official figures of a level over (resampled) clips."""
        return score(self.counts(level, clips), self.taxonomy)

    def prevalence(self) -> "Evaluation":
        """The best constant prediction: each label's share of positives among these very clips."""
        other = object.__new__(Evaluation)
        other.__dict__ |= self.__dict__
        other.predicted = {
            level: np.broadcast_to((y == 1).mean(axis=0), y.shape) for level, y in self.truth.items()
        }
        return other

    def headlines(self, clips: np.ndarray | slice = slice(None)) -> Figures:
        """Headline figures of both levels as ``level.name``, over (resampled) clips."""
        return {name: value for name, value in self.figures(clips).items() if "class_auprc" not in name}

    def figures(self, clips: np.ndarray | slice = slice(None)) -> Figures:
        """Headline figures and category AUPRCs of both levels as ``level.name``, over (resampled) clips."""
        found: Figures = {}
        for level in COUNTERS:
            scores = self.scores(level, clips)
            found |= {f"{level}.{name}": getattr(scores, name) for name in HEADLINES}
            found |= {f"{level}.class_auprc.{name}": area for name, area in scores.class_auprc.items()}
        return found

    def intervals(self, *, count: int, seed: int) -> dict[str, dict[str, list[float]]]:
        """95 % intervals of `figures`, by the unit that is drawn."""
        result = {}
        for unit in UNITS:
            draws = resamples(self.sensors, unit=unit, count=count, seed=seed)
            values = distribution(self.figures, draws)
            result[unit] = {name: _round(interval(v)) for name, v in values.items()}
        return result


def headline(evaluation: Evaluation, intervals: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """What stands in the metrics file: official figures, the constant prediction's, and 95 % intervals.

    Returns
    -------
    dict
        ``fine`` and ``coarse``, each with `HEADLINES` and ``class_auprc``; ``prevalence`` and ``ci95`` (by
        unit), each with both levels' `HEADLINES`.
    """
    metrics: dict[str, Any] = {}
    for level in COUNTERS:
        scores = evaluation.scores(level)
        metrics[level] = {name: _round(getattr(scores, name)) for name in HEADLINES}
        metrics[level]["class_auprc"] = _round(scores.class_auprc)
    constant = evaluation.prevalence()
    metrics["prevalence"] = {
        level: {name: _round(getattr(constant.scores(level), name)) for name in HEADLINES}
        for level in COUNTERS
    }
    metrics["ci95"] = {
        unit: {level: {name: found[f"{level}.{name}"] for name in HEADLINES} for level in COUNTERS}
        for unit, found in intervals.items()
    }
    return metrics


def details(
    evaluation: Evaluation, intervals: dict[str, dict[str, list[float]]], thresholds: dict[str, float] | None
) -> dict[str, Any]:
    """What stands in a file of its own: figures of every label and category.

    Parameters
    ----------
    evaluation : Evaluation
    intervals : dict
        As `Evaluation.intervals` gives them.
    thresholds : dict of str to float, optional
        By label, chosen on other clips (`best_thresholds`); gives the F1 at them.

    Returns
    -------
    dict
        ``labels``: by label, positives, average precision and ROC AUC (null without positives or negatives),
        threshold and F1 at it; ``categories``: by level and coarse name, clips with positives, AUPRC and its
        intervals; ``lrap``: label-ranking average precision of each level over clips with any label.
    """
    labels: dict[str, Any] = {}
    for level, names in (("coarse", evaluation.taxonomy.coarse), ("fine", evaluation.taxonomy.fine)):
        for column, label in enumerate(names):
            y, p = evaluation.truth[level][:, column], evaluation.predicted[level][:, column]
            labels[label] = _of_label(y, p, None if thresholds is None else thresholds[label])
    categories: dict[str, Any] = {}
    for level in COUNTERS:
        scores = evaluation.scores(level)
        categories[level] = {
            name: {
                "positives": scores.class_positives[name],
                "auprc": _round(area),
                "ci95": {unit: found[f"{level}.class_auprc.{name}"] for unit, found in intervals.items()},
            }
            for name, area in scores.class_auprc.items()
        }
    return {
        "lrap": {level: _lrap(evaluation.truth[level], evaluation.predicted[level]) for level in COUNTERS},
        "categories": categories,
        "labels": labels,
    }


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


def compare(
    first: Evaluation, second: Evaluation, *, unit: str, count: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Paired bootstrap: both systems on the same resamples.

    Returns
    -------
    dict
        By headline figure (``fine.micro_auprc`` …): the figure of both, their difference (first minus
        second), its 95 % interval, and the share of resamples in which the first is ahead (ties count half).
    """

    def differences(clips: np.ndarray) -> Figures:
        a, b = first.headlines(clips), second.headlines(clips)
        return {name: a[name] - b[name] for name in a}

    values = distribution(differences, resamples(first.sensors, unit=unit, count=count, seed=seed))
    firsts, seconds = first.headlines(), second.headlines()
    result = {}
    for name, difference in values.items():
        a, b = firsts[name], seconds[name]
        ahead = np.mean((difference > 0) + 0.5 * (difference == 0))
        result[name] = {
            "first": _round(a),
            "second": _round(b),
            "difference": _round(a - b),
            "ci95": _round(interval(difference)),
            "first_ahead": _round(float(ahead)),
        }
    return result


def _of_label(truth: np.ndarray, predicted: np.ndarray, threshold: float | None) -> dict[str, Any]:
    both = 0 < truth.sum() < len(truth)
    figures: dict[str, Any] = {
        "positives": int(truth.sum()),
        "average_precision": _round(float(average_precision_score(truth, predicted)))
        if truth.any()
        else None,
        "roc_auc": _round(float(roc_auc_score(truth, predicted))) if both else None,
    }
    if threshold is not None:
        said = predicted >= threshold
        right = int((said & (truth == 1)).sum())
        figures["threshold"] = _round(threshold)
        figures["f1_at_threshold"] = _round(2 * right / max(1, int(said.sum() + truth.sum())))
    return figures


def _lrap(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    some = truth.any(axis=1)
    if not some.any():
        return None
    return _round(float(label_ranking_average_precision_score(truth[some], predicted[some])))


def _round(value: Any) -> Any:
    """Ten decimals, which is more than sums agree to and less than their noise."""
    if isinstance(value, dict):
        return {key: _round(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_round(item) for item in value]
    return round(value, 10) if isinstance(value, float) else value
