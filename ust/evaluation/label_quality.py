"""Quality of label rules: labels aggregated from the volunteers' votes, compared with the ground truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from ust.annotations.rules.pooled import PooledConfig, fit_annotator_model
from ust.annotations.rules.votes import Votes
from ust.annotations.taxonomy import Level, Taxonomy
from ust.evaluation.average_precision import average_precision
from ust.evaluation.bootstrap import confidence_interval, draw_resamples
from ust.evaluation.calibration import highest_f1_threshold
from ust.evaluation.curves import reliability
from ust.util.seeding import random_stream

# Columns of the tables below, also where there are no votes and the tables are empty.
TABLES = {
    "annotators": ("annotator_id", "clips", "marked", "sensitivity", "false_alarms", "agreement"),
    "doubtful": ("label", "audio_filename", "split", "marked", "asked", "posterior"),
    "reliability": ("system", "level", "predicted", "observed", "count"),
}
BATCH = 20  # resamples at a time, to bound memory
FOLDS = 10  # the F1 threshold of each fold is chosen on the other nine


def micro_average_precision(truth: np.ndarray, predicted: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Compute micro-averaged average precision for several resamples of the clips.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, labels)]
        Labels, 0 or 1, and their probabilities.
    copies : numpy.ndarray [shape=(resamples, clips)]
        How often each resample counts each clip.

    Returns
    -------
    numpy.ndarray [shape=(resamples,)]
        0 for a resample without positives.
    """
    values = [
        average_precision(
            truth.ravel() == 1,
            predicted.ravel(),
            np.repeat(copies[start : start + BATCH], truth.shape[1], axis=1),
        )
        for start in range(0, len(copies), BATCH)
    ]
    return np.nan_to_num(np.concatenate(values))


def cross_validated_f1(truth: np.ndarray, predicted: np.ndarray, *, seed: int) -> float:
    """Compute micro F1 with the threshold of each fold chosen on the other folds."""
    fold = random_stream(seed, "f1").permutation(len(truth)) % FOLDS
    truth, predicted_positive = truth == 1, np.zeros(truth.shape, bool)
    for number in np.unique(fold):
        test = fold == number
        threshold = highest_f1_threshold(truth[~test].ravel(), predicted[~test].ravel())
        predicted_positive[test] = predicted[test] >= threshold
    return float(2 * (predicted_positive & truth).sum() / max(predicted_positive.sum() + truth.sum(), 1))


def evaluate_rules(
    truth: np.ndarray, estimates: Mapping[str, np.ndarray], taxonomy: Taxonomy, *, bootstrap: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Evaluate label rules against the ground truth."""
    indices = draw_resamples(np.zeros(len(truth)), unit="clips", count=bootstrap, seed=seed)
    once = np.ones(len(truth), int)
    copies = np.stack([once, *(np.bincount(each, minlength=len(truth)) for each in indices)])
    results: dict[str, dict[str, Any]] = {name: {} for name in estimates}
    for level, columns in _columns_by_level(taxonomy).items():
        first: tuple[float, np.ndarray] | None = None
        for name, values in estimates.items():
            ap, *resampled = micro_average_precision(truth[:, columns], values[:, columns], copies)
            ap, resampled = float(ap), np.array(resampled)
            first = first or (ap, resampled)
            results[name][level] = {
                "ap": ap,
                "f1": cross_validated_f1(truth[:, columns], values[:, columns], seed=seed),
                "ci95": confidence_interval(resampled),
                "difference": ap - first[0],
                "difference_ci95": confidence_interval(resampled - first[1]),
            }
    return results


def _columns_by_level(taxonomy: Taxonomy) -> dict[Level, slice]:
    """Return the columns of each level in arrays of all labels, coarse first."""
    coarse = len(taxonomy.coarse)
    columns = {"fine": slice(coarse, None), "coarse": slice(None, coarse)}
    return {level: columns[level] for level in taxonomy.levels}


def reliability_table(
    truth: np.ndarray, estimates: Mapping[str, np.ndarray], taxonomy: Taxonomy
) -> pd.DataFrame:
    """Return the reliability diagrams of all rules: ``system, level, predicted, observed, count``."""
    tables = [
        reliability(truth[:, columns], values[:, columns]).assign(system=name, level=level)
        for name, values in estimates.items()
        for level, columns in reversed(_columns_by_level(taxonomy).items())  # coarse first
    ]
    return pd.concat(tables)[list(TABLES["reliability"])]


def annotator_table(votes: Votes, settings: PooledConfig) -> pd.DataFrame:
    """Estimate the reliability of each annotator, with the model of the rule ``pooled``."""
    _, theta, effect = fit_annotator_model(votes, settings)
    rates = expit(theta.mean(axis=0) + effect)
    yes, asked = (votes.presence == 1).astype(float), (votes.presence != -1).astype(float)
    all_yes, all_asked = votes.sum_by_clip(yes)[votes.clip], votes.sum_by_clip(asked)[votes.clip]
    others = (all_yes - yes) / np.where(all_asked > asked, all_asked - asked, np.nan)
    contested = (all_yes > 0) & (asked > 0) & ~np.isnan(others)
    agrees = np.where(others == 0.5, 0.5, (others > 0.5) == (yes > 0))
    agreed = votes.sum_by_annotator(np.where(contested, agrees, 0).sum(axis=1))
    compared = votes.sum_by_annotator(contested.sum(axis=1).astype(float))
    rows = votes.sum_by_annotator(np.ones(len(votes.clip)))
    table = pd.DataFrame(
        {
            "annotator_id": votes.annotators,
            "clips": rows.astype(int),
            "marked": votes.sum_by_annotator(yes.sum(axis=1)) / rows,
            "sensitivity": rates[:, 1],
            "false_alarms": rates[:, 0],
            "agreement": agreed / np.where(compared > 0, compared, np.nan),
        }
    )
    return table.sort_values(
        ["clips", "annotator_id"], ascending=[False, True], kind="stable", ignore_index=True
    )


def doubtful_labels(votes: Votes, posterior: np.ndarray, *, limit: int) -> pd.DataFrame:
    """Select labels to review: for each label, the clips whose posterior and majority differ most."""
    majority = votes.fraction() > 0.5
    marked, asked = votes.sum_by_clip(votes.presence == 1), votes.sum_by_clip(votes.presence != -1)
    rows = []
    for column, label in enumerate(votes.taxonomy.labels):
        p = posterior[:, column]
        gap = np.abs(p - majority[:, column])
        for clip in np.argsort(-gap, kind="stable")[:limit]:
            if gap[clip] > 0.5:
                counts = marked[clip, column], asked[clip, column]
                rows.append((label, votes.clips[clip], votes.split[clip], *counts, p[clip]))
    return pd.DataFrame(rows, columns=list(TABLES["doubtful"]))
