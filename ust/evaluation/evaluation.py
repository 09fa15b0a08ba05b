"""Metrics with confidence intervals from predictions and ground truth."""

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
from ust.evaluation.bootstrap import UNITS, bootstrap_scores, confidence_interval, draw_resamples
from ust.evaluation.metrics import (
    HEADLINES,
    Counts,
    Events,
    Scores,
    coarse_events,
    compute_scores,
    fine_events,
    threshold_counts,
)
from ust.evaluation.predictions import read_predictions

log = logging.getLogger("ust")
METRICS = (*HEADLINES, "macro_auprc_present")
Metrics = dict[str, float]
Intervals = dict[str, dict[str, list[float]]]  # [low, high] by resampled unit and ``level.metric``


@dataclass(frozen=True)
class Evaluation:
    """The predictions and the ground truth of a split.

    Attributes
    ----------
    sensors : numpy.ndarray [shape=(clips,)]
        The sensor that recorded each clip.
    truth : dict of str to numpy.ndarray [shape=(clips, labels)]
        By level: 1 where the label is present, 0 where it is absent, -1 where it is not known.
    predicted : dict of str to numpy.ndarray [shape=(clips, labels)]
        Probabilities by level; 0, which no official metric counts, where the label is not known.
    """

    taxonomy: Taxonomy
    sensors: np.ndarray
    truth: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]

    @classmethod
    def from_tables(cls, truth: pd.DataFrame, predicted: pd.DataFrame, taxonomy: Taxonomy) -> "Evaluation":
        """Build an evaluation from two tables with a column per label and the same clips as rows.

        `truth` also has ``sensor_id``. A label is present if it is 1; NaN is left out of all metrics. If
        `truth` has no fine label, only the coarse level is evaluated.
        """
        if not set(taxonomy.fine) & set(truth.columns):
            taxonomy = replace(taxonomy, fine=(), group=())
        labels, coarse = list(taxonomy.labels), len(taxonomy.coarse)
        y, p = truth[labels].to_numpy(), predicted[labels].to_numpy(np.float64)
        y, unknown = (y == 1).astype(np.int8), y != y
        if unknown.any():
            y, p = np.where(unknown, np.int8(-1), y), np.where(unknown, 0.0, p)
        return cls(
            taxonomy,
            truth["sensor_id"].to_numpy(),
            {"fine": y[:, coarse:], "coarse": y[:, :coarse]},
            {"fine": p[:, coarse:], "coarse": p[:, :coarse]},
        )

    @classmethod
    def read(
        cls, path: Path, truth: pd.DataFrame, taxonomy: Taxonomy, *, others: Iterable[str] = ()
    ) -> "Evaluation":
        """Read a CSV of predictions for the clips of `truth`; rows for the clips in `others` are ignored.

        A label without a column is taken as 0, with a warning if the file has others of its level.

        Raises
        ------
        UserError
            As `ust.evaluation.predictions.read_predictions`.
        """
        predicted, missing = read_predictions(path, truth["audio_filename"].tolist(), taxonomy, others=others)
        for names in (taxonomy.coarse, taxonomy.fine):
            absent = [name for name in names if name in missing]
            if 0 < len(absent) < len(names):
                log.warning("warning: %s has no column for %s; taken as 0", path, ", ".join(absent))
        return cls.from_tables(truth, predicted, taxonomy)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that the system predicts: those with a probability above 0, or all if there is none.

        A level with labels that are not known, whose probabilities are 0, is taken as predicted.
        """
        levels = self.taxonomy.levels
        return tuple(lv for lv in levels if self.predicted[lv].any() or (self.truth[lv] < 0).any()) or levels

    def events(self, level: Level) -> list[Events]:
        """Return the events of each coarse category, from which counts and resampled metrics follow."""
        compute = fine_events if level == "fine" else coarse_events
        return compute(self.truth[level], self.predicted[level], self.taxonomy)

    def counts(self, level: Level) -> list[Counts]:
        """Return the counts of each coarse category at its thresholds."""
        return [threshold_counts(events) for events in self.events(level)]

    def scores(self, level: Level) -> Scores:
        """Return the official metrics of a level."""
        return compute_scores(self.counts(level), self.taxonomy.categories(level))

    def prevalence(self, level: Level) -> dict[str, float]:
        """Return the share of clips with a label of each coarse category, by the category's name.

        Clips of which no label of the category is known are not counted.
        """
        shares = {}
        for group in self.taxonomy.groups(level):
            truth = self.truth[level][:, self.taxonomy.fine_indices(group) if level == "fine" else [group]]
            positive, known = (truth == 1).any(axis=1), (truth >= 0).any(axis=1)
            shares[self.taxonomy.coarse_name(group)] = float(positive.sum() / max(known.sum(), 1))
        return shares

    def constant(self) -> "Evaluation":
        """Evaluate a constant prediction: for every clip, each label's share of positives in these clips.

        Its class AUPRC is half the prevalence: the official precision is 0 where nothing is predicted, so
        the area under the curve is a triangle.
        """
        constant = {}
        for level, y in self.truth.items():
            share = (y == 1).sum(axis=0) / np.maximum((y >= 0).sum(axis=0), 1)
            constant[level] = np.where(y >= 0, share, 0.0)
        return replace(self, predicted=constant)

    def headlines(self) -> Metrics:
        """Return the official metrics of the levels that the system predicts, named ``level.metric``."""
        scores_by_level = {level: self.scores(level) for level in self.levels}
        return {
            f"{level}.{name}": getattr(scores, name)
            for level, scores in scores_by_level.items()
            for name in METRICS
        }

    def bootstrap_metrics(self, draws: Iterable[np.ndarray], level: Level) -> dict[str, np.ndarray]:
        """Return arrays (resamples,) of the official metrics and class AUPRCs, named ``level.metric``."""
        resampled = bootstrap_scores(self.events(level), draws)
        names = self.taxonomy.categories(level)
        areas = dict(zip(names, resampled.pop("class_auprc").T, strict=True))
        scores = resampled | {f"class_auprc.{name}": area for name, area in areas.items()}
        return {f"{level}.{name}": values for name, values in scores.items()}

    def intervals(self, *, count: int, seed: int) -> Intervals:
        """Compute 95 % confidence intervals of all metrics, by resampled unit ("clips", "sensors")."""
        intervals: Intervals = {}
        for unit in UNITS:
            draws = list(draw_resamples(self.sensors, unit=unit, count=count, seed=seed))
            intervals[unit] = {
                name: round_floats(confidence_interval(values))
                for level in self.levels
                for name, values in self.bootstrap_metrics(draws, level).items()
            }
        return intervals


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
    """Compute the official metrics of any system's predictions, with 95 % confidence intervals.

    Parameters
    ----------
    predictions : str or Path
        CSV in the official submission layout.
    annotations : str or Path
        ``annotations.csv`` with ground truth. Without fine columns only the coarse level is evaluated.
    taxonomy : str or Path
        ``dcase-ust-taxonomy.yaml``.
    bootstrap : int
        Number of resamples behind the intervals.
    coarse : {"from_fine", "as_given"}
        See `ust.annotations.annotations.read_annotations`.

    Returns
    -------
    dict
        See `detailed_metrics`.

    Raises
    ------
    UserError
        If a file is missing or wrong.
    """
    labels = read_taxonomy(Path(taxonomy))
    truth, others = read_ground_truth(Path(annotations), labels, split, coarse)
    evaluation = Evaluation.read(Path(predictions), truth, labels, others=others)
    return detailed_metrics(evaluation, evaluation.intervals(count=bootstrap, seed=seed))


def headline_metrics(evaluation: Evaluation) -> dict[str, Metrics]:
    """Return the `HEADLINES` of each level that the system predicts, the content of the metrics file."""
    scores = evaluation.headlines()
    return {
        level: {name: round_floats(scores[f"{level}.{name}"]) for name in HEADLINES}
        for level in evaluation.levels
    }


def detailed_metrics(
    evaluation: Evaluation, intervals: Intervals, thresholds: dict[str, float] | None = None
) -> dict[str, Any]:
    """Collect all metrics of a system, the content of the detailed metrics file."""
    levels = evaluation.levels
    metrics: dict[str, Any] = {level: _level_metrics(evaluation.scores(level)) for level in levels}
    constant = evaluation.constant()
    metrics["constant"] = {level: _level_metrics(constant.scores(level)) for level in levels}
    metrics["prevalence"] = {level: round_floats(evaluation.prevalence(level)) for level in levels}
    metrics["ci95"] = {
        unit: {level: {name: unit_intervals[f"{level}.{name}"] for name in METRICS} for level in levels}
        for unit, unit_intervals in intervals.items()
    }
    metrics["lrap"] = {level: _lrap(evaluation.truth[level], evaluation.predicted[level]) for level in levels}
    metrics["categories"] = {level: _category_metrics(evaluation, level, intervals) for level in levels}
    metrics["labels"] = {
        label: _label_metrics(y[y >= 0], p[y >= 0], None if thresholds is None else thresholds[label])
        for level, labels in (("coarse", evaluation.taxonomy.coarse), ("fine", evaluation.taxonomy.fine))
        if level in levels
        for label, y, p in zip(labels, evaluation.truth[level].T, evaluation.predicted[level].T, strict=True)
    }
    return metrics


def _level_metrics(scores: Scores) -> dict[str, Any]:
    """Return the official metrics of a level and its class AUPRCs."""
    return round_floats({name: getattr(scores, name) for name in (*METRICS, "class_auprc")})


def _category_metrics(evaluation: Evaluation, level: Level, intervals: Intervals) -> dict[str, Any]:
    """Return positives, AUPRC and confidence intervals of each category of a level, by its name."""
    scores = evaluation.scores(level)
    return {
        name: {
            "positives": scores.class_positives[name],
            "auprc": round_floats(area),
            "ci95": {
                unit: unit_intervals[f"{level}.class_auprc.{name}"]
                for unit, unit_intervals in intervals.items()
            },
        }
        for name, area in scores.class_auprc.items()
    }


def _label_metrics(truth: np.ndarray, predicted: np.ndarray, threshold: float | None) -> dict[str, Any]:
    """Return the metrics of a single label."""
    has_both_classes = 0 < truth.sum() < len(truth)
    metrics: dict[str, Any] = {
        "positives": int(truth.sum()),
        "average_precision": round_floats(float(average_precision_score(truth, predicted)))
        if truth.any()
        else None,
        "roc_auc": round_floats(float(roc_auc_score(truth, predicted))) if has_both_classes else None,
    }
    if threshold is not None:
        predicted_positive = predicted >= threshold
        true_positive = int((predicted_positive & (truth == 1)).sum())
        metrics["threshold"] = round_floats(threshold)
        metrics["f1_at_threshold"] = round_floats(
            2 * true_positive / max(1, int(predicted_positive.sum() + truth.sum()))
        )
    return metrics


def _lrap(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """Return the label-ranking average precision over clips with a label; None if there are none."""
    present = truth == 1
    labelled = present.any(axis=1)
    if not labelled.any():
        return None
    return round_floats(float(label_ranking_average_precision_score(present[labelled], predicted[labelled])))


def round_floats(value: Any, decimals: int = 10) -> Any:
    """Round every float in nested dicts and lists; NaN becomes None.

    Sums agree to ten decimals on every machine; the metrics' sampling error is far larger.
    """
    if isinstance(value, dict):
        return {key: round_floats(item, decimals) for key, item in value.items()}
    if isinstance(value, list):
        return [round_floats(item, decimals) for item in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, decimals)
    return value


def compare_systems(
    first: Evaluation, second: Evaluation, *, unit: str, count: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Compare two systems by a paired bootstrap, on the same resamples, at the levels that both predict."""
    draws = list(draw_resamples(first.sensors, unit=unit, count=count, seed=seed))
    first_figures, second_figures = first.headlines(), second.headlines()
    result = {}
    for level in (level for level in first.levels if level in second.levels):
        first_resampled, second_resampled = (
            system.bootstrap_metrics(draws, level) for system in (first, second)
        )
        for name in (f"{level}.{metric}" for metric in METRICS):
            difference = first_resampled[name] - second_resampled[name]
            result[name] = {
                "first": first_figures[name],
                "second": second_figures[name],
                "difference": first_figures[name] - second_figures[name],
                "ci95": confidence_interval(difference),
                "first_ahead": float(np.mean((difference > 0) + 0.5 * (difference == 0))),
            }
    return round_floats(result)
