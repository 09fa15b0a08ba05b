"""Metrics of a custom tagger: AUPRC (average precision), F1 at its thresholds, bootstrap intervals."""

from typing import Any

import numpy as np
from scipy.stats import norm

from ust.custom.training import UNLABELLED, TrainingResult, extrapolate_to_twice_the_clips
from ust.evaluation.average_precision import average_precision
from ust.evaluation.bootstrap import CONFIDENCE
from ust.evaluation.curves import calibration_errors
from ust.evaluation.evaluation import Evaluation, round_floats
from ust.util.seeding import random_stream

MIN_POSITIVES = 10  # fewer positives give no interval
BATCH = 100  # resamples at a time, to bound memory
DECIMALS = 4  # of the metrics in the files


def compute_metrics(
    result: TrainingResult, *, bootstrap: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the contents of metrics.json and details.json.

    Parameters
    ----------
    result : TrainingResult
        The trained tagger with its evaluations.
    bootstrap : int
        Number of resamples of the recordings for the 95 % intervals.
    seed : int
        Seed of the resamples.

    Returns
    -------
    metrics : dict
        For each split (``train``: out-of-fold predictions) and level ``micro_auprc``, ``macro_auprc``,
        ``micro_f1`` and ``calibration_error``; ``twice_the_clips``: extrapolated micro AUPRC, or null.
    details : dict
        ``clips`` by split; by split and level ``ci95`` (null with too few positives) and ``chance`` (AUPRC of
        a constant prediction); ``labels``: threshold and, by split, positives, AUPRC and F1 of each label.

    Examples
    --------
    >>> result = train(collection, weights_fetcher(collection.folder))  # doctest: +SKIP
    >>> metrics, details = compute_metrics(result, bootstrap=1000, seed=0)  # doctest: +SKIP
    >>> metrics["train"]["fine"]["micro_auprc"]  # doctest: +SKIP
    """
    names = dict(zip(result.taxonomy.labels, result.taxonomy.names, strict=True))
    threshold_of = dict.fromkeys(names, 0.5) | result.model["metadata"].get("thresholds", {})
    metrics: dict[str, Any] = {}
    details: dict[str, Any] = {
        "clips": {
            "unlabelled" if split == UNLABELLED else split: len(table)
            for split, table in result.predicted.items()
        },
        "ci95": {},
        "chance": {},
        "ece_uncalibrated": {},
        "labels": {name: {"threshold": threshold_of[label]} for label, name in names.items()},
    }
    for split, evaluation in result.evaluations.items():
        calibration = calibration_errors(evaluation, result.model)
        details["ece_uncalibrated"][split] = calibration.get("ece_uncalibrated", {})
        metrics[split], details["ci95"][split], details["chance"][split] = {}, {}, {}
        for level in evaluation.taxonomy.levels:
            labels = evaluation.taxonomy.fine if level == "fine" else evaluation.taxonomy.coarse
            thresholds = np.array([threshold_of[label] for label in labels])
            truth, predicted = evaluation.truth[level], evaluation.predicted[level]
            scores = compute_scores(truth, predicted, thresholds, np.ones((1, len(truth))))
            shares = (truth == 1).sum(axis=0) / np.maximum((truth >= 0).sum(axis=0), 1)
            headlines = {name: float(scores[name][0]) for name in ("micro_auprc", "macro_auprc", "micro_f1")}
            metrics[split][level] = headlines | {"calibration_error": calibration["ece"][level]}
            details["chance"][split][level] = {
                "micro_auprc": float((truth == 1).sum() / max((truth >= 0).sum(), 1)),
                "macro_auprc": float(shares[shares > 0].mean()) if shares.any() else 0.0,
            }
            details["ci95"][split][level] = _bootstrap_intervals(
                evaluation, level, thresholds, headlines, count=bootstrap, seed=seed
            )
            for column, label in enumerate(labels):
                details["labels"][names[label]][split] = {
                    "positives": int((truth[:, column] == 1).sum()),
                    "auprc": float(scores["class_auprc"][0, column]),
                    "f1": float(scores["class_f1"][0, column]),
                }
    metrics["twice_the_clips"] = extrapolate_to_twice_the_clips(result.curve)
    return round_floats(metrics, DECIMALS), round_floats(details, DECIMALS)


def compute_scores(
    truth: np.ndarray, predicted: np.ndarray, thresholds: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute the metrics of a level for several weightings of the clips, such as bootstrap resamples.

    ``micro_auprc``, ``macro_auprc`` (mean over the labels with positives) and ``micro_f1`` have the shape
    (weightings,), ``class_auprc`` and ``class_f1`` (weightings, labels), with NaN without positives.
    """
    labels, known, present = truth.shape[1], truth >= 0, truth == 1
    areas = np.stack(
        [average_precision(present[:, k], predicted[:, k], weights * known[:, k]) for k in range(labels)],
        axis=1,
    )
    positive = (predicted >= thresholds) & known
    # F1 is 2 tp / total, where total is the number of predicted plus the number of actual positives.
    tp, total = weights @ (positive & present), weights @ (positive.astype(int) + present)
    occurs = weights @ present > 0
    pooled = np.repeat(weights, labels, axis=1) * known.ravel()
    return {
        "micro_auprc": average_precision(present.ravel(), predicted.ravel(), pooled),
        "macro_auprc": np.nansum(areas, axis=1) / np.maximum(occurs.sum(axis=1), 1),
        "micro_f1": 2 * tp.sum(axis=1) / np.maximum(total.sum(axis=1), 1),
        "class_auprc": areas,
        "class_f1": np.where(occurs, 2 * tp / np.maximum(total, 1), np.nan),
    }


def _bootstrap_intervals(
    evaluation: Evaluation,
    level: str,
    thresholds: np.ndarray,
    scores: dict[str, float],
    *,
    count: int,
    seed: int,
) -> dict[str, list[float] | None]:
    """Resample recordings and return the interval of each figure, None with too few positives."""
    truth, predicted = evaluation.truth[level], evaluation.predicted[level]
    if (truth == 1).sum() < MIN_POSITIVES:
        return dict.fromkeys(scores)
    recordings, recording = np.unique(evaluation.sensors, return_inverse=True)
    rng = random_stream(seed, "bootstrap", "sensors")
    size = len(recordings)
    # A resample of the recordings weights each clip by how often its recording was drawn.
    weights = rng.multinomial(size, np.full(size, 1 / size), size=count)[:, recording].astype(float)
    resampled = [
        compute_scores(truth, predicted, thresholds, weights[start : start + BATCH])
        for start in range(0, count, BATCH)
    ]
    return {
        name: bias_corrected_interval(np.concatenate([each[name] for each in resampled]), score)
        for name, score in scores.items()
    }


def bias_corrected_interval(values: np.ndarray, score: float) -> list[float] | None:
    """Return the bias-corrected 95 % interval of a figure from its resampled values.

    Resampled AUPRCs are biased, since duplicates of a clip rank alike; plain percentiles may even leave out
    the figure itself. None if the figure lies outside 95 % of the values, as with too few clips.

    References
    ----------
    Efron, Better Bootstrap Confidence Intervals, JASA 1987.
    """
    tail = (1 - CONFIDENCE) / 2
    below = float(np.mean(values < score) + np.mean(values == score) / 2)
    if not tail < below < 1 - tail:
        return [score, score] if (values == score).all() else None
    bias, z = norm.ppf(below), norm.ppf(1 - tail)
    low, high = np.quantile(values, [norm.cdf(2 * bias - z), norm.cdf(2 * bias + z)])
    return [min(float(low), score), max(float(high), score)]
