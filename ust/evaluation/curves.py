"""Tables behind the evaluation's pictures, and how far probabilities are from shares."""

from typing import Any

import numpy as np
import pandas as pd

from ust.evaluation.calibration import Calibration
from ust.evaluation.evaluation import Evaluation, round_floats
from ust.evaluation.metrics import Counts, micro_counts, precision_recall

POINTS = 200
BINS = 10
NONE = "none"


def curves(evaluation: Evaluation, intervals: dict[str, dict[str, list[float]]]) -> dict[str, pd.DataFrame]:
    """All tables, by file name.

    Returns
    -------
    dict of str to pandas.DataFrame
        For each level: ``<level>`` (threshold, recall, precision, f1; micro-averaged),
        ``<level>_categories`` (category, threshold, recall, precision), ``<level>_bars`` (category, auprc,
        low, high), ``<level>_reliability`` (predicted, observed, count); and ``confusion`` (actual,
        predicted), the category given most probability for each category that was there.
    """
    tables = {}
    for level in evaluation.taxonomy.levels:
        counts = evaluation.counts(level)
        scores = evaluation.scores(level)
        tables[level] = _curve(micro_counts(counts), f1=True)
        categories = []
        for name, category in zip(scores.class_auprc, counts, strict=True):
            curve = _curve(category)
            curve.insert(0, "category", name)
            categories.append(curve)
        tables[f"{level}_categories"] = pd.concat(categories)
        found = [intervals["clips"][f"{level}.class_auprc.{name}"] for name in scores.class_auprc]
        tables[f"{level}_bars"] = pd.DataFrame(
            {
                "category": list(scores.class_auprc),
                "auprc": list(scores.class_auprc.values()),
                "low": [low for low, _ in found],
                "high": [high for _, high in found],
            }
        )
        tables[f"{level}_reliability"] = reliability(evaluation.truth[level], evaluation.predicted[level])
    tables["confusion"] = confusion(evaluation)
    return tables


def reliability(truth: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """How often what was predicted with some probability was there, over ten equal bins of probability.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, labels)]
        All labels together.
    """
    bins = np.minimum((predicted.ravel() * BINS).astype(int), BINS - 1)
    table = pd.DataFrame({"bin": bins, "predicted": predicted.ravel(), "observed": truth.ravel() == 1})
    grouped = table.groupby("bin").agg(
        predicted=("predicted", "mean"), observed=("observed", "mean"), count=("observed", "size")
    )
    return grouped.reset_index(drop=True)


def expected_calibration_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """How far probabilities are from shares: |predicted - observed| over ten bins, weighted by their sizes.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, labels)]
        All labels together.
    """
    table = reliability(truth, predicted)
    gaps = (table["predicted"] - table["observed"]).abs()
    return float((gaps * table["count"]).sum() / table["count"].sum())


def calibration_errors(evaluation: Evaluation, model: dict[str, Any] | None = None) -> dict[str, Any]:
    """Expected calibration error by level, and what it was before the system was calibrated.

    Parameters
    ----------
    evaluation : Evaluation
    model : dict, optional
        What the system's ``model.json`` says.

    Returns
    -------
    dict
        ``ece`` and, if there is a calibration, ``ece_uncalibrated`` of the levels that it is of.
    """
    levels = evaluation.taxonomy.levels
    truth, predicted = evaluation.truth, evaluation.predicted
    found = {"ece": {level: expected_calibration_error(truth[level], predicted[level]) for level in levels}}
    content = (model or {}).get("about", {}).get("calibration")
    if content:
        calibration, labels = Calibration.of(content), list(model["labels"])
        found["ece_uncalibrated"] = {}
        for level in levels:
            names = evaluation.taxonomy.fine if level == "fine" else evaluation.taxonomy.coarse
            if set(names) <= set(labels):
                before = calibration.of_labels(labels, names).undo(predicted[level])
                found["ece_uncalibrated"][level] = expected_calibration_error(truth[level], before)
    return round_floats(found)


def confusion(evaluation: Evaluation) -> pd.DataFrame:
    """For each category that a clip has (or "none"), the category given the highest probability there."""
    truth, predicted = evaluation.truth["coarse"], evaluation.predicted["coarse"]
    names = [evaluation.taxonomy.coarse_name(g) for g in range(truth.shape[1])]
    rows = []
    for y, p in zip(truth, predicted, strict=True):
        actual = [name for name, there in zip(names, y, strict=True) if there] or [NONE]
        rows += [(name, names[int(np.argmax(p))]) for name in actual]
    return pd.DataFrame(rows, columns=["actual", "predicted"])


def _curve(counts: Counts, *, f1: bool = False) -> pd.DataFrame:
    precision, recall = precision_recall(counts)
    keep = np.unique(np.linspace(0, len(recall) - 1, POINTS).round().astype(int))
    table = pd.DataFrame({"threshold": counts.thresholds, "recall": recall, "precision": precision})
    if f1:
        table["f1"] = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return table.iloc[keep]
