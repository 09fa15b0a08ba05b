"""Dawid & Skene's and GLAD's models of volunteers, by crowd-kit, one label at a time.

References
----------
Dawid & Skene, Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm, Applied
Statistics 28 (1979). Whitehill et al., Whose Vote Should Count More, NIPS 2009. Ustalov et al., Learning
from Crowds with Crowd-Kit, JOSS 9 (2024).
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.rules.votes import EstimateConfig, Votes
from ust.util.config import Count
from ust.util.errors import UserError


class IterativeRule(EstimateConfig):
    """What of params.yaml sets the rule."""

    iterations: Count


def _crowd_kit() -> Any:
    try:
        from crowdkit import aggregation
    except ImportError:
        raise UserError("this rule needs crowd-kit: pip install crowd-kit") from None
    return aggregation


def dawid_skene(votes: Votes, settings: IterativeRule) -> np.ndarray:
    """Probabilities [shape=(clips, labels)] by Dawid & Skene's model."""
    model = _crowd_kit().DawidSkene
    return _each_label(votes, lambda table: model(n_iter=settings.iterations).fit_predict_proba(table))


def glad(votes: Votes, settings: IterativeRule) -> np.ndarray:
    """Probabilities [shape=(clips, labels)] by GLAD; minutes for some thousand clips."""
    model = _crowd_kit().GLAD
    return _each_label(
        votes, lambda table: model(n_iter=settings.iterations, silent=True).fit_predict_proba(table)
    )


def _each_label(votes: Votes, fit: Any) -> np.ndarray:
    """Of labels that all or none gave, the share that did; the libraries need both answers."""
    found = votes.fraction()
    for column in range(votes.said.shape[1]):
        answers = votes.said[:, column]
        asked = answers != -1
        if len(np.unique(answers[asked])) < 2:
            continue
        table = pd.DataFrame(
            {"task": votes.clip[asked], "worker": votes.annotator[asked], "label": answers[asked]}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, about how crowd-kit calls it
            probabilities = fit(table)[1]
        found[probabilities.index, column] = probabilities
    return found
