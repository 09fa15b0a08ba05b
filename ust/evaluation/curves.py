"""Tables behind the evaluation's plots, and the expected calibration error."""

from typing import Any

import numpy as np
import pandas as pd

from ust.evaluation.calibration import Calibration
from ust.evaluation.evaluation import Evaluation, Intervals, round_floats
from ust.evaluation.metrics import Counts, micro_counts, precision_recall

POINTS = 200
BINS = 10
NONE = "none"


def curves(evaluation: Evaluation, intervals: Intervals) -> dict[str, pd.DataFrame]:
    """Compute the tables of all plots, by file name."""
    tables = {}
    for level in evaluation.levels:
        counts = evaluation.counts(level)
        areas = evaluation.scores(level).class_auprc
        curve = _curve(micro_counts(counts))
        precision, recall = curve["precision"], curve["recall"]
        tables[level] = curve.assign(f1=2 * precision * recall / np.maximum(precision + recall, 1e-12))
        categories = {name: _curve(category) for name, category in zip(areas, counts, strict=True)}
        tables[f"{level}_categories"] = pd.concat(categories, names=["category"]).reset_index("category")
        tables[f"{level}_bars"] = pd.DataFrame(
            [
                (name, area, *intervals["clips"][f"{level}.class_auprc.{name}"])
                for name, area in areas.items()
            ],
            columns=["category", "auprc", "low", "high"],
        )
        tables[f"{level}_reliability"] = reliability(evaluation.truth[level], evaluation.predicted[level])
    if "coarse" in evaluation.levels:
        tables["confusion"] = confusion(evaluation)
    return tables


def reliability(truth: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Compute a reliability diagram: observed frequency against predicted probability in ten equal bins.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, labels)]
        Pooled over all labels; a truth of -1 is left out.

    Returns
    -------
    pandas.DataFrame
        ``predicted`` (mean probability), ``observed`` (share of positives) and ``count`` of each bin that is
        not empty.
    """
    known = truth >= 0
    truth, predicted = truth[known], predicted[known]
    bins = np.minimum((predicted * BINS).astype(int), BINS - 1)
    table = pd.DataFrame({"bin": bins, "predicted": predicted, "observed": truth == 1})
    grouped = table.groupby("bin").agg(
        predicted=("predicted", "mean"), observed=("observed", "mean"), count=("observed", "size")
    )
    return grouped.reset_index(drop=True)


def expected_calibration_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Compute the expected calibration error: |predicted - observed|, weighted by bin size over ten bins.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, labels)]
        Pooled over all labels.
    """
    table = reliability(truth, predicted)
    gaps = (table["predicted"] - table["observed"]).abs()
    return float((gaps * table["count"]).sum() / max(1, table["count"].sum()))


def calibration_errors(evaluation: Evaluation, model: dict[str, Any] | None = None) -> dict[str, Any]:
    """Compute the expected calibration error of each level, with and without the system's calibration."""
    levels = evaluation.levels
    truth, predicted = evaluation.truth, evaluation.predicted  # by level
    errors = {"ece": {level: expected_calibration_error(truth[level], predicted[level]) for level in levels}}
    content = (model or {}).get("metadata", {}).get("calibration")
    if content:
        calibration, labels = Calibration.from_dict(content), list(model["labels"])
        errors["ece_uncalibrated"] = {}
        for level in levels:
            names = evaluation.taxonomy.fine if level == "fine" else evaluation.taxonomy.coarse
            if set(names) <= set(labels):
                uncalibrated = calibration.select_labels(labels, names).invert(predicted[level])
                errors["ece_uncalibrated"][level] = expected_calibration_error(truth[level], uncalibrated)
    return round_floats(errors)


def confusion(evaluation: Evaluation) -> pd.DataFrame:
    """Return pairs of a category in a clip's ground truth (or "none") and its most probable category."""
    truth, predicted = evaluation.truth["coarse"], evaluation.predicted["coarse"]
    names = evaluation.taxonomy.categories("coarse")
    rows = []
    for y, p in zip(truth, predicted, strict=True):
        actual = [name for name, present in zip(names, y, strict=True) if present == 1] or [NONE]
        rows += [(name, names[int(np.argmax(p))]) for name in actual]
    return pd.DataFrame(rows, columns=["actual", "predicted"])


def _curve(counts: Counts) -> pd.DataFrame:
    """Return precision and recall at no more than `POINTS` thresholds."""
    precision, recall = precision_recall(counts)
    table = pd.DataFrame({"threshold": counts.thresholds, "recall": recall, "precision": precision})
    return table.iloc[np.unique(np.linspace(0, len(table) - 1, POINTS).round().astype(int))]
