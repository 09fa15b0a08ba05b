"""Label vectors of clips: the interface of aggregation rules, and the files that they write."""

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
    """A label aggregation rule.

    Attributes
    ----------
    settings : type
        Class of the rule's parameters.
    aggregate : callable
        ``aggregate(annotations, taxonomy, settings)`` returns a table with the columns ``split``,
        ``audio_filename`` and the labels, coarse first, with values in [0, 1]. It has a row for each clip for
        which `is_labelled` is true, sorted by split and name. If `needs_model_outputs`, the function also
        takes ``embeddings`` or ``predictions``, a table with one row per clip.
    estimate : callable or None
        ``estimate(votes, settings)`` returns label probabilities [shape=(clips, labels)] from the volunteers'
        votes alone, for comparison with the ground truth. It also takes ``embeddings`` or ``predictions`` if
        `needs_model_outputs`, and ``annotations`` if `supervised`. The stage label_quality needs it.
    needs_model_outputs : bool
        Whether the rule also uses embeddings or predictions; the parameter ``model_outputs`` names the file.
    supervised : bool
        Whether the rule is trained on ground truth.
    """

    settings: type[Section]
    aggregate: Callable[..., pd.DataFrame]
    estimate: Callable[..., np.ndarray] | None = None
    needs_model_outputs: bool = False
    supervised: bool = False


def is_labelled(annotations: pd.DataFrame) -> pd.Series:
    """Return, by row, whether the clip gets labels.

    These are all train clips; in another split, the clips with ground truth, or all if no clip of the split
    has any. In SONYC-UST v2 only some clips of validate and test have ground truth.
    """
    is_truth = annotations["annotator_id"] == GROUND_TRUTH
    clips, splits = annotations["audio_filename"], annotations["split"]
    needs_no_truth = (splits == "train") | ~splits.isin(splits[is_truth])
    return needs_no_truth | clips.isin(clips[is_truth])


def select_labelled_clips(annotations: pd.DataFrame) -> pd.DataFrame:
    """Return the clips that get labels (`is_labelled`), indexed by audio_filename, with their ``split``."""
    rows = annotations[is_labelled(annotations)]
    return rows.groupby("audio_filename")[["split"]].first()


def drop_repeated_rows(annotations: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """Drop rows in which an annotator gives a clip the same labels as in an earlier row."""
    return annotations.drop_duplicates(["audio_filename", "annotator_id", *taxonomy.labels])


def mask_unasked(labels: pd.DataFrame, annotations: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """Set labels that no annotator of the clip was asked for to NaN, and drop clips without other labels."""
    names = list(taxonomy.labels)
    asked = (annotations[names] != -1).groupby(annotations["audio_filename"]).any()
    asked = asked.loc[labels["audio_filename"]].to_numpy()
    masked = labels.assign(**labels[names].where(asked))
    return masked[asked.any(axis=1)].reset_index(drop=True)


def read_labels(path: Path, taxonomy: Taxonomy) -> pd.DataFrame:
    """Read the label file that the stage aggregate_labels wrote, indexed by audio_filename.

    Raises
    ------
    UserError
        If the file is missing or its columns are not the taxonomy's.
    """
    types = {"split": str, "audio_filename": str}
    labels = read_csv(path, hint="the stage aggregate_labels makes it", dtype=types)
    expected = ["split", "audio_filename", *taxonomy.labels]
    if list(labels.columns) != expected:
        raise UserError(
            f"{path}: the columns should be split, audio_filename and the taxonomy's labels, coarse first"
        )
    return labels.set_index("audio_filename")
