"""Learning curves: scores with fewer training clips, and extrapolation to more."""

from functools import cache

import numpy as np
import pandas as pd

from ust.models.examples import Examples
from ust.models.outputs import output_labels
from ust.training.context import TrainingContext
from ust.training.train import flat_score
from ust.training.train_head import HeadSystem, predict_out_of_fold

SHARES = (0.125, 0.25, 0.5, 1.0)
MIN_ERROR = 1e-3  # smallest distance of a score from 1, as its logarithm is taken


def learning_curve(
    system: HeadSystem, examples: Examples, decay: float, work: TrainingContext, *, seeds: int
) -> pd.DataFrame:
    """Score out-of-fold predictions of heads that are trained on a share of the recordings.

    Parameters
    ----------
    system : System
        Row of ``systems`` in params.yaml.
    examples : Examples
        Train clips, with targets of all labels.
    decay : float
        Weight decay.
    work : TrainingContext
        Where and on which device to train.
    seeds : int
        Number of random subsets for each share; with 0 the table is empty.

    Returns
    -------
    pandas.DataFrame
        ``seed``, ``clips`` (number of training clips of a fold), ``score`` (micro AUPRC, the mean over the
        levels that have positives).
    """
    micro_auprc = flat_score(
        output_labels(system.row.outputs, work.taxonomy), examples.targets > 0.5, work.taxonomy
    )
    coarse = len(work.taxonomy.coarse)
    present = examples.targets > 0.5
    has_positives = {"coarse": present[:, :coarse].any(), "fine": present[:, coarse:].any()}
    levels = [level for level in work.taxonomy.levels if has_positives[level]]

    @cache
    def score(share: float, seed: int) -> float:
        scores = micro_auprc(predict_out_of_fold(system, examples, decay, work, share=share, seed=seed))
        return float(np.mean([scores[level] for level in levels])) if levels else 0.0

    rows = []
    tasks = [(seed, share) for seed in range(seeds) for share in SHARES]
    for seed, share in work.progress(tasks, total=len(tasks), description="learning curve", unit="head"):
        clips = round(share * len(examples) * (system.training.folds - 1) / system.training.folds)
        # The full set does not depend on the seed, so it is trained only once.
        rows.append({"seed": seed, "clips": clips, "score": score(share, seed if share < 1 else 0)})
    return pd.DataFrame(rows, columns=["seed", "clips", "score"])


def extrapolate_to_twice_the_clips(curve: pd.DataFrame) -> tuple[float, float, float] | None:
    """Extrapolate a learning curve to twice the number of clips.

    The error, 1 minus the score, is assumed to fall as a power of the number of clips (Hestness et al., Deep
    Learning Scaling is Predictable, Empirically, 2017): a straight line in logarithms.

    Parameters
    ----------
    curve : pandas.DataFrame
        As `learning_curve` returns it.

    Returns
    -------
    tuple of float or None
        Median, lowest and highest extrapolated score over the seeds; None for an empty curve.

    Examples
    --------
    >>> curve = pd.DataFrame({"seed": 0, "clips": [50, 100], "score": [0.2, 0.6]})
    >>> round(extrapolate_to_twice_the_clips(curve)[0], 3)
    0.8
    """
    scores = []
    for _, rows in curve.groupby("seed"):
        x = np.log(rows["clips"].clip(lower=1))
        y = np.log((1 - rows["score"]).clip(lower=MIN_ERROR))
        slope = min(0.0, float(np.polyfit(x, y, 1)[0])) if x.nunique() > 1 else 0.0
        scores.append(1 - float(np.exp(y.iloc[-1] + slope * np.log(2))))
    return (float(np.median(scores)), min(scores), max(scores)) if scores else None
