"""The fraction of the asked annotators who marked the label as present."""

import numpy as np

from ust.annotations.rules.votes import EstimateConfig, Votes, rule_from_estimate


def estimate_fraction(votes: Votes, settings: EstimateConfig) -> np.ndarray:
    """Return fractions [shape=(clips, labels)]; 0 if no annotator was asked."""
    return votes.fraction()


RULE = rule_from_estimate(EstimateConfig, estimate_fraction)
