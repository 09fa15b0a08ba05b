"""How good a tagger is with fewer clips, and what more of them would give."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from ust.models.examples import Examples
from ust.models.outputs import output_labels
from ust.training.flat import flat_score
from ust.training.train_head import out_of_fold
from ust.training.work import TrainingContext

SHARES = (0.125, 0.25, 0.5, 1.0)
LEAST = 1e-3  # distance from 1 that a logarithm is taken of


def learning_curve(
    system: Any, examples: Examples, decay: float, work: TrainingContext, *, seeds: int
) -> pd.DataFrame:
    """Out-of-fold scores of heads that learn from a share of the other folds' recordings.

    Parameters
    ----------
    system : System
    examples : Examples
        With targets of all labels.
    decay : float
        The weight decay.
    work : Work
    seeds : int
        Draws of the recordings for each share; 0 gives no curve.

    Returns
    -------
    pandas.DataFrame
        ``seed, clips`` (that a fold learns from), ``score`` (micro AUPRC, averaged over the levels of
        which anything is there).
    """
    of = flat_score(output_labels(system.outputs, work.taxonomy), examples.targets > 0.5, work.taxonomy)
    coarse = len(work.taxonomy.coarse)
    there = examples.targets > 0.5
    heard = {"coarse": there[:, :coarse].any(), "fine": there[:, coarse:].any()}
    levels = [level for level in work.taxonomy.levels if heard[level]]

    @cache
    def score(share: float, seed: int) -> float:
        scores = of(out_of_fold(system, examples, decay, work, share=share, seed=seed))
        return float(np.mean([scores[level] for level in levels])) if levels else 0.0

    rows = []
    tasks = [(seed, share) for seed in range(seeds) for share in SHARES]
    for seed, share in work.progress(tasks, total=len(tasks), description="learning curve", unit="head"):
        clips = round(share * len(examples) * (system.folds - 1) / system.folds)
        # All recordings are the same ones, whatever the draw.
        rows.append({"seed": seed, "clips": clips, "score": score(share, seed if share < 1 else 0)})
    return pd.DataFrame(rows, columns=["seed", "clips", "score"])


def expected_with_twice_the_clips(curve: pd.DataFrame) -> tuple[float, float, float] | None:
    """What twice the clips would give: the middle, lowest and highest of the draws; None without a curve.

    The distance from 1 is taken to fall as a power of the number of clips (Hestness et al., Deep Learning
    Scaling is Predictable, Empirically, 2017): a straight line in logarithms.
    """
    found = []
    for _, rows in curve.groupby("seed"):
        x = np.log(rows["clips"].clip(lower=1))
        y = np.log((1 - rows["score"]).clip(lower=LEAST))
        slope = min(0.0, float(np.polyfit(x, y, 1)[0])) if x.nunique() > 1 else 0.0
        found.append(1 - float(np.exp(y.iloc[-1] + slope * np.log(2))))
    return (float(np.median(found)), min(found), max(found)) if found else None
