"""From predictions and annotations to the metrics file and its curves."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from ust.metrics import Counts, Scores, coarse_counts, fine_counts, micro_counts, precision_recall, score
from ust.taxonomy import Taxonomy

COUNTERS = {"coarse": coarse_counts, "fine": fine_counts}
CURVE_POINTS = 200


def evaluate(
    truth: pd.DataFrame, predicted: pd.DataFrame, taxonomy: Taxonomy
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Score predictions against the ground truth at both levels.

    Parameters
    ----------
    truth, predicted : pandas.DataFrame
        A column per label; rows of the same clips in the same order.
    taxonomy : Taxonomy

    Returns
    -------
    metrics : dict
        ``fine`` and ``coarse``, each with the fields of `ust.metrics.Scores`; ``prevalence``, the headline
        figures of the best constant prediction, each label's share of positives.
    curves : dict of str to pandas.DataFrame
        By level, ``threshold, recall, precision`` of the micro-averaged curve, thinned to 200 points.
    """
    levels = {"fine": list(taxonomy.fine), "coarse": list(taxonomy.coarse)}
    metrics: dict[str, Any] = {}
    prevalence: dict[str, Any] = {}
    curves = {}
    for level, labels in levels.items():
        y, p = truth[labels].to_numpy(), predicted[labels].to_numpy(np.float64)
        counts = COUNTERS[level](y, p, taxonomy)
        metrics[level] = _rounded(score(counts, taxonomy))
        constant = np.broadcast_to((y == 1).mean(axis=0), p.shape)
        scores = score(COUNTERS[level](y, constant, taxonomy), taxonomy)
        prevalence[level] = {k: v for k, v in _rounded(scores).items() if not isinstance(v, dict)}
        curves[level] = _curve(micro_counts(counts))
    return {**metrics, "prevalence": prevalence}, curves


def _rounded(scores: Scores) -> dict[str, Any]:
    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: short(item) for key, item in value.items()}
        return round(value, 10) if isinstance(value, float) else value

    return short(asdict(scores))


def _curve(counts: Counts) -> pd.DataFrame:
    precision, recall = precision_recall(counts)
    keep = np.unique(np.linspace(0, len(recall) - 1, CURVE_POINTS).round().astype(int))
    return pd.DataFrame({"threshold": counts.thresholds, "recall": recall, "precision": precision}).iloc[keep]
