"""Combine the volunteers' votes with the predictions of a listener, which is a classifier.

The listener is a file of embeddings, on which the rule trains a classifier, or of predictions. The classifier
is a ridge regression on the posteriors of the rule ``pooled``, and its predictions are out of fold, with
folds grouped by sensor. Predictions are Platt-scaled to the posteriors. Each prediction adds evidence to the
votes: the log ratio of its odds to those of the label's prevalence. Platt scaling sets the weight of this
evidence for each label, by how well the predictions agree with the votes. All is repeated with the resulting
labels, until they converge or for at most three rounds. Only train clips are changed.

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

from ust.annotations.rules.pooled import Pooled, combine_coarse, fit_annotator_model, logit, sigmoid
from ust.annotations.rules.votes import Votes, rule_from_estimate
from ust.util.config import Positive
from ust.util.errors import UserError

TOLERANCE = 0.01  # stop when no label changes by more
LIMIT = 1e-4  # probabilities are clipped to [LIMIT, 1 - LIMIT]


class Relabel(Pooled):
    """Parameters of the rule: those of ``pooled`` and of the classifier."""

    listener: Annotated[str, Field(pattern=r"\.(h5|csv)$")]
    """A feature file of embeddings, or a CSV file of predictions in the submission layout."""
    penalty: Positive = 1.0
    """Penalty of the ridge regression on embeddings, per dimension."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Cross-validation folds of the regression, which keep sensors apart."""
    rounds: Annotated[int, Field(ge=1, le=3)] = 3
    """How often the listener is compared with the labels and the labels are estimated again."""


def estimate_relabel(
    votes: Votes,
    settings: Relabel,
    *,
    embeddings: pd.DataFrame | None = None,
    predictions: pd.DataFrame | None = None,
) -> np.ndarray:
    """Return label probabilities [shape=(clips, labels)].

    Clips without a row in the table, or outside train, keep the probabilities of ``pooled``.
    """
    table = predictions if embeddings is None else embeddings
    own, _, _ = fit_annotator_model(votes, settings)
    voted = combine_coarse(own, votes.taxonomy)
    selected = np.flatnonzero((votes.split == "train") & np.isin(votes.clips, table.index.to_numpy(str)))
    sensors = votes.sensors[selected]
    if embeddings is not None and len(np.unique(sensors)) < settings.folds:
        raise UserError(
            f"the train clips with embeddings are of {len(np.unique(sensors))} sensor(s), too few for "
            f"{settings.folds} folds; set folds lower"
        )
    values = table.loc[votes.clips[selected]].to_numpy(np.float64)
    values = logit(values, LIMIT) if embeddings is None else _standardise(values)
    labels = voted[selected]
    for _ in range(settings.rounds):
        before = labels
        scores = values if embeddings is None else _predict_out_of_fold(values, before, sensors, settings)
        evidence = _calibrate(scores, before) - logit(before.mean(0), LIMIT)
        labels = sigmoid(logit(voted[selected], LIMIT) + evidence)
        if np.abs(labels - before).max() < TOLERANCE:
            break
    probabilities = voted.copy()
    probabilities[selected] = labels
    return probabilities


def _standardise(x: np.ndarray) -> np.ndarray:
    """Scale columns to mean 0 and standard deviation 1."""
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def _predict_out_of_fold(
    x: np.ndarray, labels: np.ndarray, sensors: np.ndarray, settings: Relabel
) -> np.ndarray:
    """Return out-of-fold predictions of a ridge regression, with folds grouped by sensor."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold

    scores = np.zeros_like(labels)
    for train, held_out in GroupKFold(settings.folds).split(x, groups=sensors):
        model = Ridge(alpha=settings.penalty * x.shape[1]).fit(x[train], labels[train])
        scores[held_out] = model.predict(x[held_out])
    return scores


def _calibrate(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return Platt-scaled logits of the scores, fitted to the soft labels one label at a time."""
    from sklearn.linear_model import LogisticRegression

    both = np.repeat([1, 0], len(scores))
    logits = np.empty_like(scores)
    for column, (score, label) in enumerate(zip(_standardise(scores).T, labels.T, strict=True)):
        weights = np.clip(np.concatenate([label, 1 - label]), LIMIT, None)
        model = LogisticRegression().fit(np.tile(score, 2)[:, None], both, sample_weight=weights)
        logits[:, column] = model.decision_function(score[:, None])
    return logits


RULE = rule_from_estimate(Relabel, estimate_relabel, has_listener=True)
