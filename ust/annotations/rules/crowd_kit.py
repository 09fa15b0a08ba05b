"""The annotator models of Dawid & Skene and of GLAD, from crowd-kit, fitted to one label at a time.

References
----------
Dawid & Skene, Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm, Applied
Statistics 28 (1979). Whitehill et al., Whose Vote Should Count More, NIPS 2009. Ustalov et al., Learning
from Crowds with Crowd-Kit, JOSS 9 (2024).
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

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
    return _fit_each_label(votes, "DawidSkene", n_iter=settings.iterations)


def estimate_glad(votes: Votes, settings: IterationConfig) -> np.ndarray:
    """Return the label probabilities of GLAD [shape=(clips, labels)]; minutes for thousands of clips."""
    return _fit_each_label(votes, "GLAD", processes=-1, n_iter=settings.iterations, silent=True)


def _fit_each_label(votes: Votes, model: str, *, processes: int = 1, **options: Any) -> np.ndarray:
    """Fit a model to each label; labels with equal votes, which crowd-kit refuses, use the fraction."""
    make_model = partial(getattr(_import_crowd_kit(), model), **options)
    probabilities = votes.fraction()
    tables = {}
    for column in range(votes.presence.shape[1]):
        presence = votes.presence[:, column]
        asked = presence != -1
        if len(np.unique(presence[asked])) > 1:
            tables[column] = pd.DataFrame(
                {"task": votes.clip[asked], "worker": votes.annotator[asked], "label": presence[asked]}
            )
    fitted = Parallel(processes)(delayed(_fit_label)(make_model, table) for table in tables.values())
    for column, positive in zip(tables, fitted, strict=True):
        probabilities[positive.index, column] = positive
    return probabilities


def _fit_label(make_model: Callable[[], Any], table: pd.DataFrame) -> pd.Series:
    """Return the probability of a positive label by clip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about crowd-kit's calls
        return make_model().fit_predict_proba(table)[1]
