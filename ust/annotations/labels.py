"""Label vectors of clips: what a rule that makes them is, which clips have them, and reading them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.taxonomy import Taxonomy
from ust.util.config import Section
from ust.util.errors import UserError
from ust.util.tables import read_csv


@dataclass(frozen=True)
class Rule:
    """A rule of label aggregation.

    Attributes
    ----------
    settings : type
        Of its parameters.
    aggregate : callable
        From annotations, taxonomy and settings to a table with ``split, audio_filename`` and the labels,
        coarse first, from 0 to 1; a row for each clip that `is_scorable` allows, sorted by split and name.
        A rule that listens is also given ``embeddings``: by clip, a row of values each.
    estimate : callable or None
        The probabilities behind the labels, for rules of `ust.annotations.rules.votes.rule_from_estimate`.
    listens : bool
        Whether it needs embeddings of the clips; its settings then have ``feature``, which says of what.
    supervised : bool
        Whether it learns from ground truth.
    """

    settings: type[Section]
    aggregate: Callable[..., pd.DataFrame]
    estimate: Callable[..., np.ndarray] | None = None
    needs_embeddings: bool = False
    supervised: bool = False


def is_scorable(annotations: pd.DataFrame) -> pd.Series:
    """By row, whether its clip may be scored: a train clip, or one with ground truth where its split has any.

    In SONYC-UST v2 only some clips of validate and test have been verified.
    """
    true = annotations["annotator_id"] == GROUND_TRUTH
    clips, splits = annotations["audio_filename"], annotations["split"]
    unchecked = (splits == "train") | ~splits.isin(splits[true])
    return unchecked | clips.isin(clips[true])


def scorable_clips(annotations: pd.DataFrame) -> pd.DataFrame:
    """The clips that `is_scorable` allows, by audio_filename, with their ``split``."""
    rows = annotations[is_scorable(annotations)]
    return rows.groupby("audio_filename")[["split"]].first()


def read_labels(path: Path, taxonomy: Taxonomy) -> pd.DataFrame:
    """Read the labels that a rule made, indexed by audio_filename.

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
