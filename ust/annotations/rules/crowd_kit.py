"""The annotator models of Dawid & Skene and of GLAD, from crowd-kit, fitted to one label at a time.

References
----------
Dawid & Skene, Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm, Applied
Statistics 28 (1979). Whitehill et al., Whose Vote Should Count More, NIPS 2009. Ustalov et al., Learning
from Crowds with Crowd-Kit, JOSS 9 (2024).
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.rules.votes import EstimateConfig, Votes
from ust.util.config import PositiveInt
from ust.util.errors import UserError


class IterationConfig(EstimateConfig):
    """Parameters of rules fitted by expectation-maximisation."""

    iterations: PositiveInt = 100
    """Iterations of expectation-maximisation."""


def _import_crowd_kit() -> Any:
    """Import crowd-kit, which is an optional dependency."""
    try:
        from crowdkit import aggregation
    except ImportError:
        raise UserError("this rule needs crowd-kit: pip install crowd-kit") from None
    return aggregation


def estimate_dawid_skene(votes: Votes, settings: IterationConfig) -> np.ndarray:
    """Return the label probabilities of Dawid & Skene's model [shape=(clips, labels)]."""
    model = _import_crowd_kit().DawidSkene
    return _fit_each_label(votes, lambda table: model(n_iter=settings.iterations).fit_predict_proba(table))


def estimate_glad(votes: Votes, settings: IterationConfig) -> np.ndarray:
    """Return the label probabilities of GLAD [shape=(clips, labels)]; minutes for thousands of clips."""
    model = _import_crowd_kit().GLAD
    return _fit_each_label(
        votes, lambda table: model(n_iter=settings.iterations, silent=True).fit_predict_proba(table)
    )


def _fit_each_label(votes: Votes, fit: Callable[[pd.DataFrame], pd.DataFrame]) -> np.ndarray:
    """Fit a model to each label; labels with equal votes, which crowd-kit refuses, use the fraction."""
    probabilities = votes.fraction()
    for column in range(votes.presence.shape[1]):
        presence = votes.presence[:, column]
        asked = presence != -1
        if len(np.unique(presence[asked])) < 2:
            continue
        table = pd.DataFrame(
            {"task": votes.clip[asked], "worker": votes.annotator[asked], "label": presence[asked]}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, about crowd-kit's calls
            positive = fit(table)[1]
        probabilities[positive.index, column] = positive
    return probabilities
