"""From what several annotators said to one label vector per clip."""

from pathlib import Path

import pandas as pd

from ust.annotations import GROUND_TRUTH
from ust.csvs import read_csv
from ust.errors import UserError
from ust.taxonomy import Taxonomy


def aggregate(annotations: pd.DataFrame, taxonomy: Taxonomy, *, threshold: float, soft: bool) -> pd.DataFrame:
    """Aggregate annotations to labels by the report's rule (section 3.2).

    A label is positive when more than `threshold` of those who were asked (presence other than -1) said so.
    Train clips are labelled by their volunteers. In the other splits, which are scored, a clip's ground-truth
    row stands where it exists, and the rule never gives fractions. Clips with neither volunteers nor ground
    truth use all their rows; a label nobody was asked about is negative.

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
    annotator = annotations["annotator_id"]
    # The lower the rank the better a row speaks for its clip; only the best rank present is counted.
    rank = pd.Series(2, index=annotations.index)
    rank[annotator > 0] = 1
    rank[(annotator == GROUND_TRUTH) & (annotations["split"] != "train")] = 0
    best = rank.groupby(annotations["audio_filename"]).transform("min")
    rows = annotations[rank == best]

    keys = [rows["split"], rows["audio_filename"]]
    asked = (rows[labels] != -1).groupby(keys).sum()
    heard = (rows[labels] == 1).groupby(keys).sum()
    fraction = heard / asked.where(asked > 0, 1)
    hard = (fraction > threshold).astype(float)
    if soft:
        train = fraction.index.get_level_values("split") == "train"
        hard[train] = fraction[train].round(6)
    return (hard if soft else hard.astype(int)).sort_index().reset_index()


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
        As `aggregate`.
    """
    true = annotations["annotator_id"] == GROUND_TRUTH
    clip = annotations["audio_filename"]
    rows = annotations[true | ~clip.isin(clip[true])]
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
