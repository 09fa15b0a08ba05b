"""The challenge baseline's rule: a label is positive when anyone said so."""

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.labels import Rule, is_scorable
from ust.annotations.rules.votes import Votes
from ust.annotations.taxonomy import Taxonomy
from ust.util.config import Section


class Anyone(Section):
    """The rule has nothing to set."""


def anyone(annotations: pd.DataFrame, taxonomy: Taxonomy, settings: Anyone) -> pd.DataFrame:
    """Aggregate by the challenge baseline's rule: positive when anyone said so, or the ground truth.

    Parameters
    ----------
    annotations : pandas.DataFrame
        As `ust.annotations.annotations.read_annotations` gives it.
    taxonomy : Taxonomy
    settings : Anyone

    Returns
    -------
    pandas.DataFrame
        See `ust.annotations.labels.Rule`.
    """
    rows = annotations[is_scorable(annotations)]
    true, clip = rows["annotator_id"] == GROUND_TRUTH, rows["audio_filename"]
    rows = rows[true | ~clip.isin(clip[true])]
    heard = (rows[list(taxonomy.labels)] == 1).groupby([rows["split"], rows["audio_filename"]]).any()
    return heard.astype(int).sort_index().reset_index()


def estimate(votes: Votes, settings: Anyone) -> np.ndarray:
    """What the rule makes of the volunteers' votes [shape=(clips, labels)]."""
    return (votes.fraction() > 0).astype(float)


RULE = Rule(Anyone, anyone, estimate)
