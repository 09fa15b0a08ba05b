"""How good label rules are: what each makes of the volunteers' votes, against the ground truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.rules.pooled import Pooled, fit_annotator_model, sigmoid
from ust.annotations.rules.votes import Votes
from ust.annotations.taxonomy import Taxonomy
from ust.evaluation.bootstrap import interval, resamples
from ust.evaluation.curves import reliability
from ust.util.seeding import random_stream

# The columns of the tables below: what there is of them where nobody voted.
TABLES = {
    "annotators": ("annotator_id", "clips", "heard", "sensitivity", "false_alarms", "agreement"),
    "doubtful": ("label", "audio_filename", "split", "heard", "asked", "posterior"),
    "reliability": ("system", "level", "predicted", "observed", "count"),
}
FOLDS = 10  # in which a threshold for F1 is taken over from the other nine


class Ranking:
    """Micro average precision of probabilities, for any number of copies of each clip.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, labels)]
    """

    def __init__(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        values = predicted.ravel()
        order = np.argsort(-values, kind="stable")
        self.clip = np.repeat(np.arange(len(truth)), truth.shape[1])[order]
        self.true = truth.ravel()[order] == 1
        self.last = np.append(np.diff(values[order]) != 0, True)  # equal values are predicted together

    def __call__(self, copies: np.ndarray) -> float:
        """Average precision where each clip counts so often [shape=(clips,)]; 0 without positives."""
        weight = copies[self.clip]
        found, said = np.cumsum(weight * self.true)[self.last], np.cumsum(weight)[self.last]
        gained = np.diff(found, prepend=0)
        return float((gained * found / np.maximum(said, 1)).sum() / max(found[-1], 1))


def crossed_f1(truth: np.ndarray, predicted: np.ndarray, *, seed: int) -> float:
    """Micro F1 at thresholds that are each chosen on other clips.

    Parameters
    ----------
    truth, predicted : numpy.ndarray [shape=(clips, labels)]
    seed : int
        Of the folds.
    """
    fold = random_stream(seed, "f1").permutation(len(truth)) % FOLDS
    said = np.zeros(truth.shape, bool)
    for number in np.unique(fold):
        held = fold == number
        values, true = predicted[~held].ravel(), truth[~held].ravel() == 1
        order = np.argsort(-values, kind="stable")
        last = np.append(np.diff(values[order]) != 0, True)
        f1 = 2 * np.cumsum(true[order]) / (np.arange(1, len(order) + 1) + true.sum())
        said[held] = predicted[held] >= values[order][np.argmax(np.where(last, f1, -1))]
    return float(2 * (said & (truth == 1)).sum() / max(said.sum() + (truth == 1).sum(), 1))


def evaluate_rules(
    truth: np.ndarray, estimates: Mapping[str, np.ndarray], taxonomy: Taxonomy, *, bootstrap: int, seed: int
) -> dict[str, dict[str, Any]]:
    """The figures of each rule.

    Parameters
    ----------
    truth : numpy.ndarray [shape=(clips, labels)]
    estimates : mapping of str to numpy.ndarray [shape=(clips, labels)]
        By rule, the first of them the one that the others are compared with.
    taxonomy : Taxonomy
    bootstrap, seed : int
        Resamples over clips behind the 95 % intervals.

    Returns
    -------
    dict of str to dict
        By rule and level ``ap`` (micro average precision), ``f1`` (see `crossed_f1`), ``ci95`` of ap, and
        ``difference`` to the first rule's with its paired interval ``difference_ci95``.
    """
    coarse = len(taxonomy.coarse)
    columns_of = {"fine": slice(coarse, None), "coarse": slice(None, coarse)}
    draws = [
        np.bincount(indices, minlength=len(truth))
        for indices in resamples(np.zeros(len(truth)), unit="clips", count=bootstrap, seed=seed)
    ]
    found: dict[str, dict[str, Any]] = {name: {} for name in estimates}
    for level in taxonomy.levels:
        columns = columns_of[level]
        first: tuple[float, np.ndarray] | None = None
        for name, values in estimates.items():
            rank = Ranking(truth[:, columns], values[:, columns])
            ap, spread = rank(np.ones(len(truth), int)), np.array([rank(copies) for copies in draws])
            first = first or (ap, spread)
            found[name][level] = {
                "ap": ap,
                "f1": crossed_f1(truth[:, columns], values[:, columns], seed=seed),
                "ci95": interval(spread),
                "difference": ap - first[0],
                "difference_ci95": interval(spread - first[1]),
            }
    return found


def reliabilities(truth: np.ndarray, estimates: Mapping[str, np.ndarray], taxonomy: Taxonomy) -> pd.DataFrame:
    """``system`` (the rule), ``level, predicted, observed, count``: how often what is likely is there."""
    coarse = len(taxonomy.coarse)
    tables = [
        reliability(truth[:, columns], values[:, columns]).assign(system=name, level=level)
        for name, values in estimates.items()
        for level, columns in (("coarse", slice(None, coarse)), ("fine", slice(coarse, None)))
        if level in taxonomy.levels
    ]
    return pd.concat(tables)[list(TABLES["reliability"])]


def annotators(votes: Votes, settings: Pooled) -> pd.DataFrame:
    """What a curator wants to know of each annotator, by the model of the rule ``pooled``.

    Returns
    -------
    pandas.DataFrame
        ``annotator_id, clips, heard`` (labels said to be there, a clip), ``sensitivity, false_alarms`` (of a
        typical label, estimated), ``agreement`` (the share of labels that anyone heard in his clips on which
        he says what most of the others do; ties count half; empty if nobody else annotated them). The most
        clips first.
    """
    _, theta, effect = fit_annotator_model(votes, settings)
    rates = sigmoid(theta.mean(axis=0) + effect)
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
            "heard": votes.sum_by_annotator(yes.sum(axis=1)) / rows,
            "sensitivity": rates[:, 1],
            "false_alarms": rates[:, 0],
            "agreement": agreed / np.where(compared > 0, compared, np.nan),
        }
    )
    return table.sort_values(
        ["clips", "annotator_id"], ascending=[False, True], kind="stable", ignore_index=True
    )


def doubtful(votes: Votes, posterior: np.ndarray, *, each: int) -> pd.DataFrame:
    """The clips to listen to: of each label those whose posterior and majority differ most.

    Parameters
    ----------
    votes : Votes
    posterior : numpy.ndarray [shape=(clips, labels)]
    each : int
        How many of a label, at most; only those on whose other side of one half the posterior is.

    Returns
    -------
    pandas.DataFrame
        ``label, audio_filename, split, heard, asked, posterior``.
    """
    share = votes.fraction()
    heard, asked = votes.sum_by_clip(votes.presence == 1), votes.sum_by_clip(votes.presence != -1)
    rows = []
    for column, label in enumerate(votes.taxonomy.labels):
        p = posterior[:, column]
        gap = np.abs(p - (share[:, column] > 0.5))
        for clip in np.argsort(-gap, kind="stable")[:each]:
            if gap[clip] > 0.5:
                counts = heard[clip, column], asked[clip, column]
                rows.append((label, votes.clips[clip], votes.split[clip], *counts, p[clip]))
    return pd.DataFrame(rows, columns=list(TABLES["doubtful"]))
