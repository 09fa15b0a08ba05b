"""The challenge baseline's rule: a label is positive if at least one annotator marked it."""

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.labels import Rule, is_labelled
from ust.annotations.rules.votes import Votes
from ust.annotations.taxonomy import Taxonomy
from ust.util.config import Section


class AnyConfig(Section):
    """The rule has no parameters."""


def aggregate_any(annotations: pd.DataFrame, taxonomy: Taxonomy, settings: AnyConfig) -> pd.DataFrame:
    """Aggregate by the challenge baseline's rule: positive if any annotator marked the label as present.

    A clip with ground truth has the labels of the ground truth.

    Parameters
    ----------
    annotations : pandas.DataFrame
        The table that `ust.annotations.annotations.read_annotations` returns.

    Returns
    -------
    pandas.DataFrame
        See `ust.annotations.labels.Rule`.
    """
    rows = annotations[is_labelled(annotations)]
    is_truth, clip = rows["annotator_id"] == GROUND_TRUTH, rows["audio_filename"]
    rows = rows[is_truth | ~clip.isin(clip[is_truth])]
    present = (rows[list(taxonomy.labels)] == 1).groupby([rows["split"], rows["audio_filename"]]).any()
    return present.astype(int).sort_index().reset_index()


def estimate(votes: Votes, settings: AnyConfig) -> np.ndarray:
    """Return the labels by the volunteers' votes [shape=(clips, labels)]: 0 or 1."""
    return (votes.fraction() > 0).astype(float)


RULE = Rule(AnyConfig, aggregate_any, estimate)
