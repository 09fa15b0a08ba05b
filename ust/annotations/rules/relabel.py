"""Combine the volunteers' votes with the predictions of a model.

The parameter ``model_outputs`` names a file of predictions, or of embeddings on which the rule trains a
classifier: a ridge regression to the posteriors of the rule ``pooled``. Its predictions are out of fold, with
folds grouped by sensor. In each round

1. predictions are Platt-scaled to the current labels, which weights each label's predictions by how well they
   agree with the votes;
2. the calibrated logit minus the logit of the label's prevalence is added to the votes' logit.

Rounds end when the labels converge, after at most three. Only the labels of train clips change.

References
----------
Goh, Tkachenko & Mueller, CROWDLAB: Supervised learning to infer consensus labels and quality scores for
data with multiple annotators, NeurIPS 2022 Human in the Loop Learning Workshop. From it: a classifier as one
more annotator, weighted by its agreement with the others.
"""

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.special import expit

from ust.annotations.rules.pooled import PooledConfig, clipped_logit, estimate_pooled
from ust.annotations.rules.votes import Votes, rule_from_estimate
from ust.util.config import PositiveFloat
from ust.util.errors import UserError

TOLERANCE = 0.01  # stop when no label changes by more
LIMIT = 1e-4  # probabilities are clipped to [LIMIT, 1 - LIMIT]


class RelabelConfig(PooledConfig):
    """Parameters of the rule: those of ``pooled`` and of the classifier."""

    model_outputs: Annotated[str, Field(pattern=r"\.(h5|csv)$")]
    """A feature file of embeddings, or a CSV file of predictions in the submission layout."""
    penalty: PositiveFloat = 1.0
    """Penalty of the ridge regression on embeddings, per dimension."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Cross-validation folds of the regression, which keep sensors apart."""
    rounds: Annotated[int, Field(ge=1, le=3)] = 3
    """Largest number of rounds in which the classifier is fitted to the labels and the labels are updated."""


def estimate_relabel(
    votes: Votes,
    settings: RelabelConfig,
    *,
    embeddings: pd.DataFrame | None = None,
    predictions: pd.DataFrame | None = None,
) -> np.ndarray:
    """Return label probabilities [shape=(clips, labels)].

    Clips without a row in the table, or outside train, keep the probabilities of ``pooled``.
    """
    table = predictions if embeddings is None else embeddings
    probabilities = estimate_pooled(votes, settings)
    train = np.flatnonzero((votes.split == "train") & np.isin(votes.clips, table.index.to_numpy(str)))
    sensors = votes.sensors[train]
    if embeddings is not None and len(np.unique(sensors)) < settings.folds:
        raise UserError(
            f"the train clips with embeddings are of {len(np.unique(sensors))} sensor(s), too few for "
            f"{settings.folds} folds; set folds lower"
        )
    values = table.loc[votes.clips[train]].to_numpy(np.float64)
    values = clipped_logit(values, LIMIT) if embeddings is None else _standardise(values)
    labels = probabilities[train]
    for _ in range(settings.rounds):
        previous = labels
        scores = values if embeddings is None else _predict_out_of_fold(values, previous, sensors, settings)
        evidence = _calibrate(scores, previous) - clipped_logit(previous.mean(0), LIMIT)
        labels = expit(clipped_logit(probabilities[train], LIMIT) + evidence)
        if np.abs(labels - previous).max() < TOLERANCE:
            break
    probabilities[train] = labels
    return probabilities


def _standardise(x: np.ndarray) -> np.ndarray:
    """Scale columns to mean 0 and standard deviation 1."""
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def _predict_out_of_fold(
    x: np.ndarray, labels: np.ndarray, sensors: np.ndarray, settings: RelabelConfig
) -> np.ndarray:
    """Return out-of-fold predictions of a ridge regression, with folds grouped by sensor."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold

    scores = np.zeros_like(labels)
    for train, test in GroupKFold(settings.folds).split(x, groups=sensors):
        model = Ridge(alpha=settings.penalty * x.shape[1]).fit(x[train], labels[train])
        scores[test] = model.predict(x[test])
    return scores


def _calibrate(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return Platt-scaled logits of the scores, fitted to the soft labels one label at a time."""
    from sklearn.linear_model import LogisticRegression

    # A clip with the soft label p is a positive example of weight p and a negative one of weight 1 - p.
    targets = np.repeat([1, 0], len(scores))
    logits = np.empty_like(scores)
    for column, (score, label) in enumerate(zip(_standardise(scores).T, labels.T, strict=True)):
        weights = np.clip(np.concatenate([label, 1 - label]), LIMIT, None)
        model = LogisticRegression().fit(np.tile(score, 2)[:, None], targets, sample_weight=weights)
        logits[:, column] = model.decision_function(score[:, None])
    return logits


RULE = rule_from_estimate(RelabelConfig, estimate_relabel, needs_model_outputs=True)
