"""The share of those asked who heard it."""

import numpy as np

from ust.annotations.rules.votes import EstimateConfig, Votes, rule_from_estimate


def estimate_fraction(votes: Votes, settings: EstimateConfig) -> np.ndarray:
    """Shares [shape=(clips, labels)]; 0 where nobody was asked."""
    return votes.fraction()


RULE = rule_from_estimate(EstimateConfig, estimate_fraction)
