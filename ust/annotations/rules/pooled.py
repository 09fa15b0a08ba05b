"""A latent-class model of annotators whose parameters are pooled over all labels.

In SONYC-UST three volunteers annotate a clip, and the median volunteer annotated four clips. That is too
little to estimate parameters for each pair of volunteer and label, as Dawid & Skene's model does. Here the
probability that volunteer a marks label l as present is

    sigmoid(theta[l, z] + effect[a, z]),        z = 1 if the label is present, 0 if it is absent.

Each label has its own logits of false-alarm rate and sensitivity (theta). Each volunteer has one effect on
either, which is shared by all labels. Gaussian priors shrink both. The model is fitted by
expectation–maximisation, in time linear in the number of annotations.

- The prior of a label's prevalence has its mode at the prevalence that fits the votes if the label is
  detected as well as a typical one. It weighs as much as `anchor` times the clips. Without it, a label on
  which few volunteers agree is estimated as common and rarely detected, which has a higher likelihood than
  false alarms.
- The prior logit of a fine label in a clip is a weighted mean of two logits: of its prevalence, and, with
  the weight `coupling`, of its coarse label's posterior times its prevalence relative to the coarse label.
- The final probability of a coarse label is the mean of its own posterior and the noisy-or of its fine
  labels.
"""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import expit, logit

from ust.annotations.rules.votes import EstimateConfig, Votes, rule_from_estimate
from ust.annotations.taxonomy import Taxonomy
from ust.util.config import Fraction, NonNegativeFloat, OpenFraction, PositiveFloat, PositiveInt

NEWTON_STEPS = 2  # per maximisation
MAX_STEP = 1.0  # of a Newton step, in logits
MIN_PREVALENCE = 1e-5

Pair = Annotated[list[PositiveFloat], Field(min_length=2, max_length=2)]


class PooledConfig(EstimateConfig):
    """Parameters of the rule; pairs are for false alarms and sensitivity."""

    iterations: PositiveInt = 40
    """Iterations of expectation-maximisation."""
    false_alarm: OpenFraction = 0.018
    """Probability that a typical volunteer marks a typical label that is absent."""
    sensitivity: OpenFraction = 0.5
    """Probability that a typical volunteer marks a typical label that is present."""
    label_deviation: Pair = Field([1.0, 0.5])
    """Prior standard deviation between labels, of logits."""
    annotator_deviation: Pair = Field([1.0, 1.0])
    """Prior standard deviation between volunteers, of logits."""
    correlation: Annotated[float, Field(gt=-1, lt=1)] = 0.5
    """Prior correlation of a volunteer's two effects."""
    anchor: NonNegativeFloat = 1.0
    """Weight of the prevalence that the votes imply at the typical rates."""
    coupling: Fraction = 0.2
    """Share of the prior of a fine label that comes from its group."""


def estimate_pooled(votes: Votes, settings: PooledConfig) -> np.ndarray:
    """Return label probabilities [shape=(clips, labels)]."""
    posterior, _, _ = fit_annotator_model(votes, settings)
    return combine_coarse(posterior, votes.taxonomy)


def fit_annotator_model(votes: Votes, settings: PooledConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit the model by expectation–maximisation.

    Returns
    -------
    posterior : numpy.ndarray [shape=(clips, labels)]
        Posterior of each label, before `combine_coarse`.
    theta : numpy.ndarray [shape=(labels, 2)]
        Logits of false-alarm rate and sensitivity.
    effect : numpy.ndarray [shape=(annotators, 2)]
        Effects of each annotator on the two logits.
    """
    typical = np.array([logit(settings.false_alarm), logit(settings.sensitivity)])
    deviation = np.array(settings.annotator_deviation)
    correlation = np.array([[1, settings.correlation], [settings.correlation, 1]])
    effect_precision = np.linalg.inv(deviation[:, None] * correlation * deviation)
    label_precision = 1 / np.square(settings.label_deviation)
    is_asked, is_yes = votes.presence != -1, votes.presence == 1
    all_asked, all_yes = (votes.sum_by_annotator(mask.astype(float)) for mask in (is_asked, is_yes))
    posterior = np.clip(votes.fraction(), 0.02, 0.9)
    theta = np.tile(typical, (posterior.shape[1], 1))
    effect = np.zeros((len(votes.annotators), 2))
    for _ in range(settings.iterations):
        # Expectation: the numbers of votes and of positive votes on absent and on present labels, each with
        # [shape=(2, annotators, labels)].
        by_row = posterior[votes.clip]
        asked_present, yes_present = (votes.sum_by_annotator(mask * by_row) for mask in (is_asked, is_yes))
        asked = np.stack([all_asked - asked_present, asked_present])
        yes = np.stack([all_yes - yes_present, yes_present])
        # Maximisation: Newton steps of the labels' logits and of the annotators' effects in turn.
        for _ in range(NEWTON_STEPS):
            residual, curvature = _derivatives(theta, effect, asked, yes)
            gradient = residual.sum(axis=1).T - (theta - typical) * label_precision
            step = gradient / (curvature.sum(axis=1).T + label_precision)
            theta = theta + np.clip(step, -MAX_STEP, MAX_STEP)

            residual, curvature = _derivatives(theta, effect, asked, yes)
            gradient = residual.sum(axis=2).T - effect @ effect_precision
            hessian = curvature.sum(axis=2).T[:, :, None] * np.eye(2) + effect_precision
            step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
            effect = effect + np.clip(step, -MAX_STEP, MAX_STEP)
        # New prevalences, and with them the posteriors.
        expected = _expected_prevalence(expit(typical + effect), all_asked, all_yes)
        prevalence = (posterior.mean(axis=0) + settings.anchor * expected) / (1 + settings.anchor)
        prevalence = np.clip(prevalence, MIN_PREVALENCE, 1 - MIN_PREVALENCE)
        prior = _prior(prevalence, posterior, votes.taxonomy, settings.coupling)
        negative, added = _evidence(theta, effect)
        evidence = is_asked * negative[votes.annotator] + is_yes * added[votes.annotator]
        posterior = expit(prior + votes.sum_by_clip(evidence))
    return posterior, theta, effect


def combine_coarse(posterior: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Average each coarse probability with the noisy-or of its fine labels; fine labels are unchanged."""
    coarse = len(taxonomy.coarse)
    combined = posterior.copy()
    for group in taxonomy.groups("fine"):
        fine = posterior[:, [coarse + index for index in taxonomy.fine_indices(group)]]
        noisy_or = 1 - np.prod(1 - fine, axis=1)
        combined[:, group] = (posterior[:, group] + noisy_or) / 2
    return combined


def _expected_prevalence(rates: np.ndarray, asked: np.ndarray, yes: np.ndarray) -> np.ndarray:
    """Estimate each label's prevalence by least squares from numbers of votes (annotators, labels).

    `rates` are the annotators' false-alarm rates and sensitivities [shape=(annotators, 2)].
    """
    false, gain = rates[:, [0]], rates[:, [1]] - rates[:, [0]]
    prevalence = (gain * (yes - false * asked)).sum(axis=0) / np.maximum(
        (gain**2 * asked).sum(axis=0), MIN_PREVALENCE
    )
    return np.clip(prevalence, MIN_PREVALENCE, 1)


def _prior(prevalence: np.ndarray, posterior: np.ndarray, taxonomy: Taxonomy, coupling: float) -> np.ndarray:
    """Return the prior logit of each label in each clip [shape=(clips, labels)]."""
    coarse, group = len(taxonomy.coarse), np.array(taxonomy.group, int)
    prior = np.tile(logit(prevalence), (len(posterior), 1))
    relative = np.minimum(prevalence[coarse:] / prevalence[:coarse][group], 0.95)
    expected = np.clip(posterior[:, :coarse][:, group] * relative, MIN_PREVALENCE, 0.95)
    prior[:, coarse:] = (1 - coupling) * prior[:, coarse:] + coupling * logit(expected)
    return prior


def _logits(theta: np.ndarray, effect: np.ndarray) -> np.ndarray:
    """Return logits of a positive vote on an absent and a present label [shape=(2, annotators, labels)]."""
    return theta.T[:, None, :] + effect.T[:, :, None]


def _derivatives(
    theta: np.ndarray, effect: np.ndarray, asked: np.ndarray, yes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return first and negative second derivatives of the expected log-likelihood in the logits."""
    p = expit(_logits(theta, effect))
    return yes - asked * p, asked * p * (1 - p)


def _evidence(theta: np.ndarray, effect: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays (annotators, labels) of log-likelihood ratios of a present to an absent label.

    The first is the ratio of a negative vote. A positive vote has the sum of both.
    """
    absent, present = _logits(theta, effect)
    return np.logaddexp(0, absent) - np.logaddexp(0, present), present - absent


def clipped_logit(p: np.ndarray, least: float) -> np.ndarray:
    """Return the logits of probabilities, which are first clipped to [least, 1 - least]."""
    return logit(np.clip(p, least, 1 - least))


RULE = rule_from_estimate(PooledConfig, estimate_pooled)
