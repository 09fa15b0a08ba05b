"""Is one system really ahead of another? Both on the same resampled clips."""

from typing import Any

import numpy as np

from ust.scores.bootstrap import interval, resamples
from ust.scores.evaluation import Evaluation, rounded


def compare(
    first: Evaluation, second: Evaluation, *, unit: str, count: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Paired bootstrap: both systems on the same resamples.

    Returns
    -------
    dict
        By headline figure (``fine.micro_auprc`` …): the figure of both, their difference (first minus
        second), its 95 % interval, and the share of resamples in which the first is ahead (ties count half).
    """

    draws = list(resamples(first.sensors, unit=unit, count=count, seed=seed))
    firsts, seconds = first.headlines(), second.headlines()
    spreads = [
        {
            name: values
            for level in system.taxonomy.levels
            for name, values in system.resampled(draws, level).items()
        }
        for system in (first, second)
    ]
    result = {}
    for name in firsts:
        difference = spreads[0][name] - spreads[1][name]
        a, b = firsts[name], seconds[name]
        ahead = np.mean((difference > 0) + 0.5 * (difference == 0))
        result[name] = {
            "first": rounded(a),
            "second": rounded(b),
            "difference": rounded(a - b),
            "ci95": rounded(interval(difference)),
            "first_ahead": rounded(float(ahead)),
        }
    return result
