"""The report's rule (section 3.2): a label is positive when more than a share of those asked said so."""

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.labels import Rule, is_scorable
from ust.annotations.rules.votes import EstimateConfig, Votes
from ust.annotations.taxonomy import Taxonomy


class Majority(EstimateConfig):
    """What of params.yaml sets the rule."""


def aggregate_majority(annotations: pd.DataFrame, taxonomy: Taxonomy, settings: Majority) -> pd.DataFrame:
    """Aggregate annotations to labels by the report's rule.

    A label is positive when more than `threshold` of those who were asked (presence other than -1) said so.
    Train clips are labelled by their volunteers, or by the team where there are none. The other splits are
    scored: their clips have their ground truth, those without no labels; only in a split without any
    ground truth the rule stands in, which then never gives fractions. What nobody was asked is negative.

    Parameters
    ----------
    annotations : pandas.DataFrame
        As `ust.annotations.annotations.read_annotations` gives it.
    taxonomy : Taxonomy
        Label names and their order.
    settings : Majority
        The threshold; `soft` gives train clips the fraction itself instead of 0 or 1.

    Returns
    -------
    pandas.DataFrame
        See `ust.annotations.labels.Rule`. Hard labels are 0 or 1; soft ones are rounded to six decimals.
    """
    labels = list(taxonomy.labels)
    rows = annotations[is_scorable(annotations)]
    rows = rows[_speaks(rows)]

    keys = [rows["split"], rows["audio_filename"]]
    asked = (rows[labels] != -1).groupby(keys).sum()
    heard = (rows[labels] == 1).groupby(keys).sum()
    fraction = heard / asked.where(asked > 0, 1)
    hard = (fraction > settings.threshold).astype(float)
    if settings.soft:
        train = fraction.index.get_level_values("split") == "train"
        hard[train] = fraction[train].round(6)
    return (hard if settings.soft else hard.astype(int)).sort_index().reset_index()


def _speaks(rows: pd.DataFrame) -> pd.Series:
    """By row, whether it speaks for its clip: the ground truth of a scored one, else volunteers, else all."""
    annotator, clip = rows["annotator_id"], rows["audio_filename"]
    true = (annotator == GROUND_TRUTH) & (rows["split"] != "train")
    volunteer = annotator > 0
    has_truth, has_volunteer = clip.isin(clip[true]), clip.isin(clip[volunteer])
    return true | (~has_truth & (volunteer | ~has_volunteer))


def estimate(votes: Votes, settings: Majority) -> np.ndarray:
    """What the rule makes of the volunteers' votes [shape=(clips, labels)]."""
    share = votes.fraction()
    return share if settings.soft else (share > settings.threshold).astype(float)


RULE = Rule(Majority, aggregate_majority, estimate)
