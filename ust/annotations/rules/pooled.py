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

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from ust.annotations.rules.votes import EstimateConfig, Votes, rule_from_estimate
from ust.annotations.taxonomy import Taxonomy
from ust.util.config import Count, Factor, Positive, Share, Weight

NEWTON_STEPS = 2  # per maximisation
MAX_STEP = 1.0  # of a Newton step, in logits
MIN_PREVALENCE = 1e-5

Pair = Annotated[list[Positive], Field(min_length=2, max_length=2)]


class Pooled(EstimateConfig):
    """Parameters of the rule; pairs are for false alarms and sensitivity."""

    iterations: Count = 40
    """Iterations of expectation-maximisation."""
    false_alarm: Factor = 0.018
    """Probability that a typical volunteer marks a typical label that is absent."""
    sensitivity: Factor = 0.5
    """Probability that a typical volunteer marks a typical label that is present."""
    label_deviation: Pair = Field([1.0, 0.5])
    """Prior standard deviation between labels, of logits."""
    annotator_deviation: Pair = Field([1.0, 1.0])
    """Prior standard deviation between volunteers, of logits."""
    correlation: Annotated[float, Field(gt=-1, lt=1)] = 0.5
    """Prior correlation of a volunteer's two effects."""
    anchor: Weight = 1.0
    """Weight of the prevalence that the votes imply at the typical rates."""
    coupling: Share = 0.2
    """Share of the prior of a fine label that comes from its group."""


def estimate_pooled(votes: Votes, settings: Pooled) -> np.ndarray:
    """Return label probabilities [shape=(clips, labels)]."""
    own, _, _ = fit_annotator_model(votes, settings)
    return combine_coarse(own, votes.taxonomy)


def fit_annotator_model(votes: Votes, settings: Pooled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit the model by expectation–maximisation.

    Returns
    -------
    own : numpy.ndarray [shape=(clips, labels)]
        Posterior of each label, before `combine_coarse`.
    theta : numpy.ndarray [shape=(labels, 2)]
        Logits of false-alarm rate and sensitivity.
    effect : numpy.ndarray [shape=(annotators, 2)]
        Effects of each annotator on the two logits.
    """
    typical = np.array([logit(settings.false_alarm), logit(settings.sensitivity)])
    deviation = np.array(settings.annotator_deviation)
    between = np.array([[1, settings.correlation], [settings.correlation, 1]])
    precision = np.linalg.inv(deviation[:, None] * between * deviation)
    label_precision = 1 / np.square(settings.label_deviation)
    sums = _VoteSums.from_votes(votes)
    own = np.clip(votes.fraction(), 0.02, 0.9)
    all_asked, all_yes = sums.by_annotator(np.ones_like(own))
    theta = np.tile(typical, (own.shape[1], 1))
    effect = np.zeros((len(votes.annotators), 2))
    for _ in range(settings.iterations):
        # Expected numbers of votes, and of positive ones, on absent and on present labels.
        present = sums.by_annotator(own)
        asked, yes = (
            np.stack([total - p, p]) for total, p in zip((all_asked, all_yes), present, strict=True)
        )
        for _ in range(NEWTON_STEPS):
            residual, curvature = _derivatives(theta, effect, asked, yes)
            gradient = residual.sum(axis=1).T - (theta - typical) * label_precision
            step = gradient / (curvature.sum(axis=1).T + label_precision)
            theta = theta + np.clip(step, -MAX_STEP, MAX_STEP)

            residual, curvature = _derivatives(theta, effect, asked, yes)
            gradient = residual.sum(axis=2).T - effect @ precision
            hessian = curvature.sum(axis=2).T[:, :, None] * np.eye(2) + precision
            step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
            effect = effect + np.clip(step, -MAX_STEP, MAX_STEP)
        expected = _expected_prevalence(sigmoid(typical + effect), all_asked, all_yes)
        prevalence = (own.mean(axis=0) + settings.anchor * expected) / (1 + settings.anchor)
        prior = _prior(
            np.clip(prevalence, MIN_PREVALENCE, 1 - MIN_PREVALENCE), own, votes.taxonomy, settings.coupling
        )
        own = sigmoid(prior + sums.by_clip(*_evidence(theta, effect)))
    return own, theta, effect


@dataclass(frozen=True)
class _VoteSums:
    """Sums over the votes of annotators or clips, in time and memory linear in the annotations.

    Most votes are negative, so they are stored as the number of rows of each annotator and clip, the positive
    votes, and the votes that were not asked for.

    Attributes
    ----------
    rows : scipy.sparse.csr_array [shape=(annotators, clips)]
        Number of rows.
    yes, unasked : tuple of numpy.ndarray [shape=(votes,)]
        Annotator, clip and label of each positive vote, and of each vote that was not asked for.
    """

    rows: csr_array
    yes: tuple[np.ndarray, np.ndarray, np.ndarray]
    unasked: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def from_votes(cls, votes: Votes) -> "_VoteSums":
        """Collect the votes."""

        def find(value: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            row, label = np.nonzero(votes.presence == value)
            return votes.annotator[row], votes.clip[row], label

        shape = len(votes.annotators), len(votes.clips)
        rows = csr_array((np.ones(len(votes.clip)), (votes.annotator, votes.clip)), shape)
        return cls(rows, find(1), find(-1))

    def by_annotator(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum values (clips, labels) over each annotator's asked and positive votes (annotators, labels)."""
        shape = self.rows.shape[0], values.shape[1]
        asked = self.rows @ values - _sum_cells(values, self.unasked, take=1, to=0, shape=shape)
        return asked, _sum_cells(values, self.yes, take=1, to=0, shape=shape)

    def by_clip(self, asked: np.ndarray, yes: np.ndarray) -> np.ndarray:
        """Sum values (annotators, labels) of asked votes and of positive votes over clips (clips, labels)."""
        shape = self.rows.shape[1], asked.shape[1]
        total = self.rows.T @ asked - _sum_cells(asked, self.unasked, take=0, to=1, shape=shape)
        return total + _sum_cells(yes, self.yes, take=0, to=1, shape=shape)


def _sum_cells(
    values: np.ndarray, votes: tuple[np.ndarray, ...], *, take: int, to: int, shape: tuple[int, int]
) -> np.ndarray:
    """Sum, by label, values of the votes' annotators (take=0) or clips (take=1) over the others (to)."""
    label = votes[2]
    cells = np.bincount(votes[to] * shape[1] + label, values[votes[take], label], shape[0] * shape[1])
    return cells.reshape(shape)


def combine_coarse(own: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Average each coarse probability with the noisy-or of its fine labels.

    Returns
    -------
    numpy.ndarray [shape=(clips, labels)]
        Coarse labels without fine labels, and fine labels, are unchanged.
    """
    coarse = len(taxonomy.coarse)
    combined = own.copy()
    for group in taxonomy.groups("fine"):
        fine = own[:, [coarse + index for index in taxonomy.members(group)]]
        noisy_or = 1 - np.prod(1 - fine, axis=1)
        combined[:, group] = (own[:, group] + noisy_or) / 2
    return combined


def _expected_prevalence(rates: np.ndarray, asked: np.ndarray, yes: np.ndarray) -> np.ndarray:
    """Estimate each label's prevalence by least squares from numbers of votes (annotators, labels).

    `rates` has the false-alarm rate and sensitivity of each annotator [shape=(annotators, 2)]. An annotator
    with equal rates has no weight.
    """
    false, gain = rates[:, [0]], rates[:, [1]] - rates[:, [0]]
    prevalence = (gain * (yes - false * asked)).sum(axis=0) / np.maximum(
        (gain**2 * asked).sum(axis=0), MIN_PREVALENCE
    )
    return np.clip(prevalence, MIN_PREVALENCE, 1)


def _prior(prevalence: np.ndarray, own: np.ndarray, taxonomy: Taxonomy, coupling: float) -> np.ndarray:
    """Return the prior logit of each label in each clip [shape=(clips, labels)]."""
    coarse, group = len(taxonomy.coarse), np.array(taxonomy.group)
    prior = np.tile(logit(prevalence), (len(own), 1))
    of_group = np.minimum(prevalence[coarse:] / prevalence[:coarse][group], 0.95)
    by_group = np.clip(own[:, :coarse][:, group] * of_group, MIN_PREVALENCE, 0.95)
    prior[:, coarse:] = (1 - coupling) * prior[:, coarse:] + coupling * logit(by_group)
    return prior


def _logits(theta: np.ndarray, effect: np.ndarray) -> np.ndarray:
    """Return each annotator's logits of a positive vote, for an absent and a present label.

    The result has [shape=(2, annotators, labels)].
    """
    return theta.T[:, None, :] + effect.T[:, :, None]


def _derivatives(
    theta: np.ndarray, effect: np.ndarray, asked: np.ndarray, yes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return first and negative second derivatives of the expected log-likelihood in the logits."""
    p = sigmoid(_logits(theta, effect))
    return yes - asked * p, asked * p * (1 - p)


def _evidence(theta: np.ndarray, effect: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log-likelihood ratios of present to absent: of any vote, and what a positive one adds to it.

    Both have [shape=(annotators, labels)]; the first is the ratio of a negative vote.
    """
    absent, present = _logits(theta, effect)
    return np.logaddexp(0, absent) - np.logaddexp(0, present), present - absent


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits."""
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def logit(p: np.ndarray | float, least: float = 0.0) -> np.ndarray:
    """Return the logits of probabilities, which are first clipped to [least, 1 - least]."""
    p = np.clip(p, least, 1 - least)
    return np.log(p) - np.log1p(-p)


RULE = rule_from_estimate(Pooled, estimate_pooled)
