"""Is one system really ahead of another? Both on the same resampled clips."""

from typing import Any

import numpy as np

from ust.scores.bootstrap import Figures, distribution, interval, resamples
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

    def differences(clips: np.ndarray) -> Figures:
        a, b = first.headlines(clips), second.headlines(clips)
        return {name: a[name] - b[name] for name in a}

    values = distribution(differences, resamples(first.sensors, unit=unit, count=count, seed=seed))
    firsts, seconds = first.headlines(), second.headlines()
    result = {}
    for name, difference in values.items():
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
