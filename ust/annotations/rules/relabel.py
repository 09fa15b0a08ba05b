"""What the volunteers said and what a tagger hears, together.

A ridge regression of embeddings learns the posteriors of the rule ``pooled`` and says what it hears in the
clips of sensors that it has not learnt from. Calibrated, it is one more witness, whose evidence is added to
the volunteers': the ratio of the odds that it gives to the label's prevalence. How much it weighs is so
decided label by label, by how well it agrees with what the votes come to. With the labels that come out it
learns again, to a fixed point or three rounds. Only train clips are listened to.

References
----------
Goh, Tkachenko & Mueller, CROWDLAB: Supervised learning to infer consensus labels and quality scores for
data with multiple annotators, NeurIPS 2022 Human in the Loop Learning Workshop: the idea of a classifier as
an annotator among others, weighed by its agreement.
"""

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from ust.annotations.rules.pooled import Pooled, combine_coarse, fit_annotator_model, logit, sigmoid
from ust.annotations.rules.votes import Votes, rule_from_estimate
from ust.util.config import Name, Positive
from ust.util.errors import UserError

TOLERANCE = 0.01  # change of any label below which another round is not worth it
LIMIT = 1e-4  # probabilities are kept this far from 0 and 1


class Relabel(Pooled):
    """What of params.yaml sets the rule: that of ``pooled``, and how it listens."""

    feature: Name  # of one embedding a clip, or several, whose mean and maximum are taken
    penalty: Positive  # of the ridge regression, times the embedding's size
    folds: Annotated[int, Field(ge=2)]  # which keep sensors apart
    rounds: Annotated[int, Field(ge=1, le=3)]


def estimate_relabel(votes: Votes, settings: Relabel, embeddings: pd.DataFrame) -> np.ndarray:
    """Probabilities [shape=(clips, labels)].

    Parameters
    ----------
    votes : Votes
    settings : Relabel
    embeddings : pandas.DataFrame
        By clip, a row of values each. Clips that have none, or are not of train, are only voted on.

    Raises
    ------
    UserError
        If the train clips are of fewer sensors than there are to be folds.
    """
    own, _, _ = fit_annotator_model(votes, settings)
    said = combine_coarse(own, votes.taxonomy)
    heard = np.flatnonzero((votes.split == "train") & np.isin(votes.clips, embeddings.index.to_numpy(str)))
    sensors = votes.sensors[heard]
    if len(np.unique(sensors)) < settings.folds:
        raise UserError(
            f"the train clips with embeddings are of {len(np.unique(sensors))} sensor(s), too few for "
            f"{settings.folds} folds; set folds lower"
        )
    x = _standardised(embeddings.loc[votes.clips[heard]].to_numpy(np.float64))
    answers = said[heard]
    for _ in range(settings.rounds):
        before = answers
        evidence = _calibrated(_out_of_fold(x, before, sensors, settings), before) - logit(
            before.mean(0), LIMIT
        )
        answers = sigmoid(logit(said[heard], LIMIT) + evidence)
        if np.abs(answers - before).max() < TOLERANCE:
            break
    found = said.copy()
    found[heard] = answers
    return found


def _standardised(x: np.ndarray) -> np.ndarray:
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def _out_of_fold(x: np.ndarray, labels: np.ndarray, sensors: np.ndarray, settings: Relabel) -> np.ndarray:
    """What the tagger says of each clip, having learnt from other sensors' [shape=(clips, labels)]."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold

    scores = np.zeros_like(labels)
    for learn, held in GroupKFold(settings.folds).split(x, groups=sensors):
        tagger = Ridge(alpha=settings.penalty * x.shape[1]).fit(x[learn], labels[learn])
        scores[held] = tagger.predict(x[held])
    return scores


def _calibrated(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits of the labels' probabilities by Platt's scaling of the scores, each label by itself."""
    from sklearn.linear_model import LogisticRegression

    both = np.repeat([1, 0], len(scores))
    logits = np.empty_like(scores)
    for column, (score, label) in enumerate(zip(_standardised(scores).T, labels.T, strict=True)):
        weights = np.clip(np.concatenate([label, 1 - label]), LIMIT, None)
        model = LogisticRegression().fit(np.tile(score, 2)[:, None], both, sample_weight=weights)
        logits[:, column] = model.decision_function(score[:, None])
    return logits


RULE = rule_from_estimate(Relabel, estimate_relabel, needs_embeddings=True)
