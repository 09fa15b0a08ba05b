"""The share of those asked who heard it."""

import numpy as np

from ust.annotations.rules.votes import Answer, Votes, rule


def fraction(votes: Votes, settings: Answer) -> np.ndarray:
    """Shares [shape=(clips, labels)]; 0 where nobody was asked."""
    return votes.fraction()


RULE = rule(Answer, fraction)
