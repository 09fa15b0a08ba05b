"""Volunteers pooled over all labels: what one says of any label tells about what he says of each.

In SONYC-UST three volunteers annotate a clip, and the median one annotated four clips: a model of each
volunteer for each label has nothing to learn from. Here a volunteer a says yes to a label l with the
probability

    sigmoid(theta[l, z] + effect[a, z]),        z = 1 where it is there, 0 where it is not:

a label has its own sensitivity and false alarms, a volunteer two effects on them that hold for all labels,
and all are shrunk by Gaussian priors. It is fitted by expectation–maximisation, in time linear in the rows.

- A label's prevalence has a prior at what its votes come to if it is heard as well as a typical label, as
  heavy as `anchor` times the clips. Without it a label that few agree on becomes common and hardly ever
  heard, which the likelihood prefers to false alarms.
- A fine label's prior in a clip is, on a log scale, to the share `coupling` the posterior of its coarse one.
- A coarse label's answer is the mean of its own posterior and the noisy-or of its group's fine ones.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from ust.annotations.rules.votes import EstimateConfig, Votes, rule_from_estimate
from ust.annotations.taxonomy import Taxonomy
from ust.util.config import Count, Factor, Positive, Share, Weight

NEWTON_STEPS = 2  # of Newton, in each maximisation
MAX_STEP = 1.0  # step, in logits
MIN_PREVALENCE = 1e-5  # the least prevalence

Pair = Annotated[list[Positive], Field(min_length=2, max_length=2)]


class Pooled(EstimateConfig):
    """What of params.yaml sets the rule; pairs are of false alarms and of sensitivity."""

    iterations: Count
    false_alarm: Factor
    sensitivity: Factor
    label_deviation: Pair  # of logits, between labels
    annotator_deviation: Pair
    correlation: Annotated[float, Field(gt=-1, lt=1)]  # of an annotator's two effects
    anchor: Weight
    coupling: Share


def estimate_pooled(votes: Votes, settings: Pooled) -> np.ndarray:
    """Probabilities [shape=(clips, labels)]."""
    own, _, _ = fit_annotator_model(votes, settings)
    return combine_coarse(own, votes.taxonomy)


def fit_annotator_model(votes: Votes, settings: Pooled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The model's posteriors and parameters.

    Returns
    -------
    own : numpy.ndarray [shape=(clips, labels)]
        Each label's own posterior.
    theta : numpy.ndarray [shape=(labels, 2)]
        Logits of false alarms and of sensitivity.
    effect : numpy.ndarray [shape=(annotators, 2)]
        A volunteer's effects on them.
    """
    typical = np.array([logit(settings.false_alarm), logit(settings.sensitivity)])
    deviation = np.array(settings.annotator_deviation)
    between = np.array([[1, settings.correlation], [settings.correlation, 1]])
    precision = np.linalg.inv(deviation[:, None] * between * deviation)
    label_precision = 1 / np.square(settings.label_deviation)
    asked = (votes.presence != -1).astype(float)
    yes = (votes.presence == 1).astype(float)
    own = np.clip(votes.fraction(), 0.02, 0.9)
    theta = np.tile(typical, (yes.shape[1], 1))
    effect = np.zeros((len(votes.annotators), 2))
    for _ in range(settings.iterations):
        there = own[votes.clip]
        weights = np.stack([1 - there, there]) * asked
        for _ in range(NEWTON_STEPS):
            residual, curvature = _derivatives(theta, effect, votes, yes, weights)
            gradient = residual.sum(axis=1).T - (theta - typical) * label_precision
            step = gradient / (curvature.sum(axis=1).T + label_precision)
            theta = theta + np.clip(step, -MAX_STEP, MAX_STEP)

            residual, curvature = _derivatives(theta, effect, votes, yes, weights)
            per_row = residual.sum(axis=2), curvature.sum(axis=2)
            gradient, diagonal = (
                np.stack([votes.sum_by_annotator(v) for v in values], 1) for values in per_row
            )
            hessian = diagonal[:, :, None] * np.eye(2) + precision
            step = np.linalg.solve(hessian, (gradient - effect @ precision)[:, :, None])[:, :, 0]
            effect = effect + np.clip(step, -MAX_STEP, MAX_STEP)
        expected = _expected_prevalence(sigmoid(typical + effect)[votes.annotator], yes, asked)
        prevalence = (own.mean(axis=0) + settings.anchor * expected) / (1 + settings.anchor)
        prior = _prior(
            np.clip(prevalence, MIN_PREVALENCE, 1 - MIN_PREVALENCE), own, votes.taxonomy, settings.coupling
        )
        own = sigmoid(prior + votes.sum_by_clip(asked * _evidence(theta, effect, votes, yes)))
    return own, theta, effect


def combine_coarse(own: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Final probabilities: a coarse label's own joined with those of its fine labels [shape=(clips, labels)].

    A coarse label without fine ones keeps its own.
    """
    coarse = len(taxonomy.coarse)
    answers = own.copy()
    for group in taxonomy.groups("fine"):
        fine = own[:, [coarse + index for index in taxonomy.members(group)]]
        noisy_or = 1 - np.prod(1 - fine, axis=1)
        answers[:, group] = (own[:, group] + noisy_or) / 2
    return answers


def _expected_prevalence(rates: np.ndarray, yes: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Each label's prevalence by the volunteers' rates of false alarms and hits (rows, 2): least squares.

    Who says yes as often where it is not there as where it is has no part in it.
    """
    false, gain = rates[:, [0]], rates[:, [1]] - rates[:, [0]]
    found = (asked * gain * (yes - false)).sum(axis=0) / np.maximum(
        (asked * gain**2).sum(axis=0), MIN_PREVALENCE
    )
    return np.clip(found, MIN_PREVALENCE, 1)


def _prior(prevalence: np.ndarray, own: np.ndarray, taxonomy: Taxonomy, coupling: float) -> np.ndarray:
    """Logits of each label's prior in each clip [shape=(clips, labels)]."""
    coarse, group = len(taxonomy.coarse), np.array(taxonomy.group)
    prior = np.tile(logit(prevalence), (len(own), 1))
    of_group = np.minimum(prevalence[coarse:] / prevalence[:coarse][group], 0.95)
    by_group = np.clip(own[:, :coarse][:, group] * of_group, MIN_PREVALENCE, 0.95)
    prior[:, coarse:] = (1 - coupling) * prior[:, coarse:] + coupling * logit(by_group)
    return prior


def _logits(theta: np.ndarray, effect: np.ndarray, votes: Votes) -> np.ndarray:
    """Of saying yes where it is not there, and where it is [shape=(2, rows, labels)]."""
    return theta.T[:, None, :] + effect[votes.annotator].T[:, :, None]


def _derivatives(
    theta: np.ndarray, effect: np.ndarray, votes: Votes, yes: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First and negative second derivatives of the expected log-likelihood by logit."""
    p = sigmoid(_logits(theta, effect, votes))
    return weights * (yes - p), weights * p * (1 - p)


def _evidence(theta: np.ndarray, effect: np.ndarray, votes: Votes, yes: np.ndarray) -> np.ndarray:
    """How much each answer speaks for its label's being there: log-likelihood ratios (rows, labels)."""
    absent, present = _logits(theta, effect, votes)
    return yes * (present - absent) + np.logaddexp(0, absent) - np.logaddexp(0, present)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Probabilities of logits."""
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def logit(p: np.ndarray | float, least: float = 0.0) -> np.ndarray:
    """Logits of probabilities, which are first kept so far from 0 and 1."""
    p = np.clip(p, least, 1 - least)
    return np.log(p) - np.log1p(-p)


RULE = rule_from_estimate(Pooled, estimate_pooled)
