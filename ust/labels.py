"""From what several annotators said to one label vector per clip."""

from pathlib import Path

import pandas as pd

from ust.annotations import GROUND_TRUTH
from ust.csvs import read_csv
from ust.errors import UserError
from ust.taxonomy import Taxonomy


def verified(annotations: pd.DataFrame) -> pd.Series:
    """By row, whether its clip may be scored: a train clip, or one with ground truth where its split has any.

    In SONYC-UST v2 only some clips of validate and test have been verified.
    """
    true = annotations["annotator_id"] == GROUND_TRUTH
    clips, splits = annotations["audio_filename"], annotations["split"]
    unchecked = (splits == "train") | ~splits.isin(splits[true])
    return unchecked | clips.isin(clips[true])


def aggregate(annotations: pd.DataFrame, taxonomy: Taxonomy, *, threshold: float, soft: bool) -> pd.DataFrame:
    """Aggregate annotations to labels by the report's rule (section 3.2).

    A label is positive when more than `threshold` of those who were asked (presence other than -1) said so.
    Train clips are labelled by their volunteers, or by the team where there are none. The other splits are
    scored: their clips have their ground truth, those without no labels; only in a split without any
    ground truth the rule stands in, which then never gives fractions. What nobody was asked is negative.

    Parameters
    ----------
    annotations : pandas.DataFrame
        As `ust.annotations.read_annotations` gives it.
    taxonomy : Taxonomy
        Label names and their order.
    threshold : float
        In [0, 1).
    soft : bool
        Give train clips the fraction itself instead of 0 or 1.

    Returns
    -------
    pandas.DataFrame
        ``split, audio_filename`` and the labels, coarse first; one row per clip, sorted by split and name.
        Hard labels are 0 or 1; soft ones are rounded to six decimals.
    """
    labels = list(taxonomy.labels)
    rows = annotations[verified(annotations)]
    rows = rows[_speaks(rows)]

    keys = [rows["split"], rows["audio_filename"]]
    asked = (rows[labels] != -1).groupby(keys).sum()
    heard = (rows[labels] == 1).groupby(keys).sum()
    fraction = heard / asked.where(asked > 0, 1)
    hard = (fraction > threshold).astype(float)
    if soft:
        train = fraction.index.get_level_values("split") == "train"
        hard[train] = fraction[train].round(6)
    return (hard if soft else hard.astype(int)).sort_index().reset_index()


def _speaks(rows: pd.DataFrame) -> pd.Series:
    """By row, whether it speaks for its clip: the ground truth of a scored one, else volunteers, else all."""
    annotator, clip = rows["annotator_id"], rows["audio_filename"]
    true = (annotator == GROUND_TRUTH) & (rows["split"] != "train")
    volunteer = annotator > 0
    has_truth, has_volunteer = clip.isin(clip[true]), clip.isin(clip[volunteer])
    return true | (~has_truth & (volunteer | ~has_volunteer))


def aggregate_any(annotations: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """Aggregate by the challenge baseline's rule: positive when anyone said so, or the ground truth.

    Parameters
    ----------
    annotations : pandas.DataFrame
        As `ust.annotations.read_annotations` gives it.
    taxonomy : Taxonomy

    Returns
    -------
    pandas.DataFrame
        As `aggregate`, of the same clips.
    """
    rows = annotations[verified(annotations)]
    true, clip = rows["annotator_id"] == GROUND_TRUTH, rows["audio_filename"]
    rows = rows[true | ~clip.isin(clip[true])]
    heard = (rows[list(taxonomy.labels)] == 1).groupby([rows["split"], rows["audio_filename"]]).any()
    return heard.astype(int).sort_index().reset_index()


def read_labels(path: Path, taxonomy: Taxonomy) -> pd.DataFrame:
    """Read ``labels.csv``, indexed by audio_filename.

    Raises
    ------
    UserError
        If the file is missing or its columns are not the taxonomy's.
    """
    types = {"split": str, "audio_filename": str}
    labels = read_csv(path, hint="the stage aggregate_labels makes it", dtype=types)
    wanted = ["split", "audio_filename", *taxonomy.labels]
    if list(labels.columns) != wanted:
        raise UserError(
            f"{path}: the columns should be split, audio_filename and the taxonomy's labels, coarse first"
        )
    return labels.set_index("audio_filename")
