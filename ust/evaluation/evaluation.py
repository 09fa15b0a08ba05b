"""From predictions and ground truth to figures with error bars."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, roc_auc_score

from ust.annotations.annotations import FROM_FINE, CoarseMode, read_ground_truth
from ust.annotations.taxonomy import Level, Taxonomy, read_taxonomy
from ust.evaluation.bootstrap import UNITS, interval, resampled_scores, resamples
from ust.evaluation.metrics import Counts, Scores, coarse_events, counts, fine_events, score
from ust.evaluation.predictions import read_predictions

log = logging.getLogger("ust")
EVENTS = {"fine": fine_events, "coarse": coarse_events}
Figures = dict[str, float]
HEADLINES = ("micro_auprc", "micro_f1", "macro_auprc", "macro_auprc_present")


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a split beside its ground truth.

    Attributes
    ----------
    taxonomy : Taxonomy
    sensors : numpy.ndarray [shape=(clips,)]
        That recorded them.
    truth, predicted : dict of str to numpy.ndarray [shape=(clips, labels)]
        By level: 1 where heard, and probabilities.
    """

    taxonomy: Taxonomy
    sensors: np.ndarray
    truth: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]

    @classmethod
    def of(cls, truth: pd.DataFrame, predicted: pd.DataFrame, taxonomy: Taxonomy) -> "Evaluation":
        """Build one from tables with a column per label and rows of the same clips.

        `truth` also has ``sensor_id``. If it has no column of a fine label, only the coarse level is scored.
        """
        if not set(taxonomy.fine) & set(truth.columns):
            taxonomy = replace(taxonomy, fine=(), group=())
        labels = {"fine": list(taxonomy.fine), "coarse": list(taxonomy.coarse)}
        return cls(
            taxonomy,
            truth["sensor_id"].to_numpy(),
            {level: (truth[names] == 1).to_numpy(np.int8) for level, names in labels.items()},
            {level: predicted[names].to_numpy(np.float64) for level, names in labels.items()},
        )

    @classmethod
    def read(
        cls, path: Path, truth: pd.DataFrame, taxonomy: Taxonomy, *, others: Iterable[str] = ()
    ) -> "Evaluation":
        """Read a CSV of predictions for the clips of `truth`; those for `others` are left out.

        A label without a column is taken as 0, and a warning says so.

        Raises
        ------
        UserError
            As `ust.evaluation.predictions.read_predictions`.
        """
        predicted, missing = read_predictions(path, list(truth["audio_filename"]), taxonomy, others=others)
        if missing:
            log.warning("warning: %s has no column for %s; taken as 0", path, ", ".join(missing))
        return cls.of(truth, predicted, taxonomy)

    def counts(self, level: Level) -> list[Counts]:
        """Counts of each category."""
        return [counts(events) for events in EVENTS[level](*self._of(level))]

    def scores(self, level: Level) -> Scores:
        """The official figures of a level."""
        return score(self.counts(level), self.taxonomy.categories(level))

    def _of(self, level: Level) -> tuple[np.ndarray, np.ndarray, Taxonomy]:
        return self.truth[level], self.predicted[level], self.taxonomy

    def prevalence(self) -> "Evaluation":
        """The best constant prediction: each label's share of positives among these very clips."""
        constant = {level: np.broadcast_to((y == 1).mean(axis=0), y.shape) for level, y in self.truth.items()}
        return replace(self, predicted=constant)

    def headlines(self) -> Figures:
        """Headline figures of all levels as ``level.name``."""
        found = {level: self.scores(level) for level in self.taxonomy.levels}
        return {
            f"{level}.{name}": getattr(scores, name) for level, scores in found.items() for name in HEADLINES
        }

    def resampled(self, draws: Iterable[np.ndarray], level: Level) -> dict[str, np.ndarray]:
        """Headline figures and category AUPRCs of a level as ``level.name``, over resamples of the clips.

        Returns
        -------
        dict of str to numpy.ndarray [shape=(resamples,)]
        """
        found = resampled_scores(EVENTS[level](*self._of(level)), draws)
        names = self.taxonomy.categories(level)
        areas = dict(zip(names, found.pop("class_auprc").T, strict=True))
        figures = found | {f"class_auprc.{name}": area for name, area in areas.items()}
        return {f"{level}.{name}": values for name, values in figures.items()}

    def intervals(self, *, count: int, seed: int) -> dict[str, dict[str, list[float]]]:
        """95 % intervals of the `resampled` figures of all levels, by the unit that is drawn."""
        result: dict[str, dict[str, list[float]]] = {}
        for unit in UNITS:
            draws = list(resamples(self.sensors, unit=unit, count=count, seed=seed))
            values = {
                name: v for level in self.taxonomy.levels for name, v in self.resampled(draws, level).items()
            }
            result[unit] = {name: round_floats(interval(v)) for name, v in values.items()}
        return result


def evaluate(
    predictions: str | Path,
    annotations: str | Path,
    taxonomy: str | Path,
    *,
    split: str = "validate",
    bootstrap: int = 1000,
    seed: int = 2019,
    coarse: CoarseMode = FROM_FINE,
) -> dict[str, Any]:
    """The official figures of any system's predictions, with 95 % intervals.

    Parameters
    ----------
    predictions : str or Path
        CSV in the official submission layout.
    annotations, taxonomy : str or Path
        ``annotations.csv`` with ground truth, and ``dcase-ust-taxonomy.yaml``. Truth without fine columns is
        scored at the coarse level alone.
    split : str
    bootstrap : int
        Resamples behind the intervals.
    seed : int
    coarse : {"from_fine", "as_given"}
        See `ust.annotations.annotations.read_annotations`.

    Returns
    -------
    dict
        See `headline_metrics`.

    Raises
    ------
    UserError
        If a file is missing or wrong.
    """
    labels = read_taxonomy(Path(taxonomy))
    truth, others = read_ground_truth(Path(annotations), labels, split, coarse)
    evaluation = Evaluation.read(Path(predictions), truth, labels, others=others)
    return headline_metrics(evaluation, evaluation.intervals(count=bootstrap, seed=seed))


def headline_metrics(evaluation: Evaluation, intervals: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """What stands in the metrics file: official figures, the constant prediction's, and 95 % intervals.

    Returns
    -------
    dict
        ``fine`` (if there are such labels) and ``coarse``, each with `HEADLINES` and ``class_auprc``;
        ``prevalence`` and ``ci95`` (by unit), each with the levels' `HEADLINES`.
    """
    metrics: dict[str, Any] = {}
    levels = evaluation.taxonomy.levels
    for level in levels:
        scores = evaluation.scores(level)
        metrics[level] = {name: round_floats(getattr(scores, name)) for name in HEADLINES}
        metrics[level]["class_auprc"] = round_floats(scores.class_auprc)
    constant = evaluation.prevalence()
    metrics["prevalence"] = {
        level: {name: round_floats(getattr(constant.scores(level), name)) for name in HEADLINES}
        for level in levels
    }
    metrics["ci95"] = {
        unit: {level: {name: found[f"{level}.{name}"] for name in HEADLINES} for level in levels}
        for unit, found in intervals.items()
    }
    return metrics


def detailed_metrics(
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
    levels = evaluation.taxonomy.levels
    for level in levels:
        scores = evaluation.scores(level)
        categories[level] = {
            name: {
                "positives": scores.class_positives[name],
                "auprc": round_floats(area),
                "ci95": {unit: found[f"{level}.class_auprc.{name}"] for unit, found in intervals.items()},
            }
            for name, area in scores.class_auprc.items()
        }
    return {
        "lrap": {level: _lrap(evaluation.truth[level], evaluation.predicted[level]) for level in levels},
        "categories": categories,
        "labels": labels,
    }


def _of_label(truth: np.ndarray, predicted: np.ndarray, threshold: float | None) -> dict[str, Any]:
    both = 0 < truth.sum() < len(truth)
    figures: dict[str, Any] = {
        "positives": int(truth.sum()),
        "average_precision": round_floats(float(average_precision_score(truth, predicted)))
        if truth.any()
        else None,
        "roc_auc": round_floats(float(roc_auc_score(truth, predicted))) if both else None,
    }
    if threshold is not None:
        said = predicted >= threshold
        right = int((said & (truth == 1)).sum())
        figures["threshold"] = round_floats(threshold)
        figures["f1_at_threshold"] = round_floats(2 * right / max(1, int(said.sum() + truth.sum())))
    return figures


def _lrap(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    some = truth.any(axis=1)
    if not some.any():
        return None
    return round_floats(float(label_ranking_average_precision_score(truth[some], predicted[some])))


def round_floats(value: Any) -> Any:
    """Ten decimals, which is more than sums agree to and less than their noise."""
    if isinstance(value, dict):
        return {key: round_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [round_floats(item) for item in value]
    return round(value, 10) if isinstance(value, float) else value


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

    draws = list(resamples(first.sensors, unit=unit, count=count, seed=seed))
    firsts, seconds = first.headlines(), second.headlines()
    spreads = [
        {
            name: values
            for level in system.taxonomy.levels
            for name, values in system.resampled(draws, level).items()
        }
        for system in (first, second)
    ]
    result = {}
    for name in firsts:
        difference = spreads[0][name] - spreads[1][name]
        a, b = firsts[name], seconds[name]
        ahead = np.mean((difference > 0) + 0.5 * (difference == 0))
        result[name] = {
            "first": round_floats(a),
            "second": round_floats(b),
            "difference": round_floats(a - b),
            "ci95": round_floats(interval(difference)),
            "first_ahead": round_floats(float(ahead)),
        }
    return result
