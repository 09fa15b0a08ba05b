"""The report's rule (section 3.2): a label is positive if enough of the asked annotators marked it."""

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.labels import Rule, drop_repeated_rows, is_labelled
from ust.annotations.rules.votes import DIGITS, EstimateConfig, Votes
from ust.annotations.taxonomy import Taxonomy


class MajorityConfig(EstimateConfig):
    """Parameters of the rule."""

    soft: bool = False
    """Whether the labels of train clips are the fractions of votes, instead of 0 or 1."""


def aggregate_majority(
    annotations: pd.DataFrame, taxonomy: Taxonomy, settings: MajorityConfig
) -> pd.DataFrame:
    """Aggregate annotations to labels by the report's rule.

    A label is positive if more than the fraction `threshold` of the asked annotators (presence other than -1)
    marked it as present; it is negative if no annotator was asked. Train clips use the annotations of their
    volunteers, or of the team and the ground truth if there are none. Clips of the other splits use their
    ground truth. If a split has no ground truth at all, its clips are labelled like train clips, but never
    with soft labels.

    Parameters
    ----------
    annotations : pandas.DataFrame
        The table that `ust.annotations.annotations.read_annotations` returns.
    taxonomy : Taxonomy
        Names and order of the labels.
    settings : MajorityConfig
        The threshold; with ``soft``, the labels of train clips are the fractions instead of 0 or 1.

    Returns
    -------
    pandas.DataFrame
        See `ust.annotations.labels.Rule`. Hard labels are 0 or 1; soft ones are rounded to six decimals.
    """
    labels = list(taxonomy.labels)
    rows = annotations[is_labelled(annotations)]
    rows = drop_repeated_rows(rows[_is_used(rows)], taxonomy)

    keys = [rows["split"], rows["audio_filename"]]
    asked = (rows[labels] != -1).groupby(keys).sum()
    present = (rows[labels] == 1).groupby(keys).sum()
    fraction = present / asked.where(asked > 0, 1)
    hard = (fraction > settings.threshold).astype(float)
    if settings.soft:
        train = fraction.index.get_level_values("split") == "train"
        hard[train] = fraction[train].round(DIGITS)
    return (hard if settings.soft else hard.astype(int)).sort_index().reset_index()


def _is_used(rows: pd.DataFrame) -> pd.Series:
    """Return the rows to use: outside train ground truth, else a clip's volunteers, else all annotators."""
    annotator, clip = rows["annotator_id"], rows["audio_filename"]
    is_truth = (annotator == GROUND_TRUTH) & (rows["split"] != "train")
    volunteer = annotator > 0
    has_truth, has_volunteer = clip.isin(clip[is_truth]), clip.isin(clip[volunteer])
    return is_truth | (~has_truth & (volunteer | ~has_volunteer))


def estimate(votes: Votes, settings: MajorityConfig) -> np.ndarray:
    """Return the labels by the volunteers' votes [shape=(clips, labels)]."""
    fraction = votes.fraction()
    return fraction if settings.soft else (fraction > settings.threshold).astype(float)


RULE = Rule(MajorityConfig, aggregate_majority, estimate)
