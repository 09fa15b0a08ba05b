"""Tables behind the evaluation's pictures."""

import numpy as np
import pandas as pd

from ust.scores.evaluation import Evaluation
from ust.scores.metrics import Counts, micro_counts, precision_recall

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
