"""The volunteers' votes as arrays, and rules that estimate label probabilities from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.labels import Rule, drop_repeated_rows, select_labelled_clips
from ust.annotations.taxonomy import Taxonomy
from ust.util.config import FractionBelowOne, Section

DIGITS = 6  # decimals of soft labels


class EstimateConfig(Section):
    """Parameters that turn probabilities into labels."""

    threshold: FractionBelowOne = 0.5
    """A label is positive if its probability is above this."""
    soft: bool = True
    """Whether the labels of train clips are the probabilities, instead of 0 or 1."""


@dataclass(frozen=True)
class Votes:
    """Annotations as arrays, with a row for each annotator and clip, sorted by clip."""

    taxonomy: Taxonomy
    clips: np.ndarray  # (clips,): sorted
    split: np.ndarray  # (clips,)
    sensors: np.ndarray  # (clips,): index of each clip's sensor, from 0
    annotators: np.ndarray  # (annotators,): their annotator_id
    clip: np.ndarray  # (rows,): index into `clips`
    annotator: np.ndarray  # (rows,): index into `annotators`
    presence: np.ndarray  # (rows, labels): coarse labels first: 1 present, 0 absent, -1 not asked

    def sum_by_clip(self, values: np.ndarray) -> np.ndarray:
        """Sum values (rows, …) over the rows of each clip [shape=(clips, …)]."""
        return np.add.reduceat(values, np.flatnonzero(np.diff(self.clip, prepend=-1)), axis=0)

    def sum_by_annotator(self, values: np.ndarray) -> np.ndarray:
        """Sum values (rows, …) over the rows of each annotator [shape=(annotators, …)]."""
        rows = np.arange(len(self.annotator))
        shape = len(self.annotators), len(rows)
        return csr_array((np.ones(len(rows)), (self.annotator, rows)), shape) @ values

    def fraction(self) -> np.ndarray:
        """Return the fraction of positive votes [shape=(clips, labels)]; 0 if no annotator was asked."""
        positive, asked = self.sum_by_clip(self.presence == 1), self.sum_by_clip(self.presence != -1)
        return positive / np.maximum(asked, 1)


def collect_votes(annotations: pd.DataFrame, taxonomy: Taxonomy) -> Votes:
    """Return the volunteers' votes on all clips; the team's votes on clips without volunteers.

    Duplicate rows of an annotator and clip count once; rows that differ count each. The result depends
    neither on the order of the rows nor on the annotators' ids.
    """
    labels = list(taxonomy.labels)
    rows = annotations[annotations["annotator_id"] != GROUND_TRUTH]
    volunteer, clip = rows["annotator_id"] > 0, rows["audio_filename"]
    rows = rows[volunteer | ~clip.isin(clip[volunteer])]
    rows = drop_repeated_rows(rows, taxonomy)
    rows = rows.sort_values(["audio_filename", "annotator_id", *labels], kind="stable")
    clips, index = np.unique(rows["audio_filename"].to_numpy(str), return_inverse=True)
    annotators, annotator = np.unique(rows["annotator_id"].to_numpy(), return_inverse=True)
    by_clip = rows.groupby("audio_filename")[["split", "sensor_id"]].first()
    _, sensors = np.unique(by_clip["sensor_id"].to_numpy(str), return_inverse=True)
    split, presence = by_clip["split"].to_numpy(str), rows[labels].to_numpy(np.int8)
    return Votes(taxonomy, clips, split, sensors, annotators, index, annotator, presence)


def rule_from_estimate(
    settings: type[EstimateConfig],
    estimate: Callable[..., np.ndarray],
    *,
    needs_model_outputs: bool = False,
    supervised: bool = False,
) -> Rule:
    """Build a rule from a function that estimates label probabilities.

    The labels of train clips are the probabilities if ``soft`` is set, and otherwise whether these are above
    ``threshold``; train clips without votes get their ground truth. Clips of other splits get their ground
    truth, or hard labels if their split has none. The other parameters are attributes of `Rule`.
    """

    def aggregate(
        annotations: pd.DataFrame, taxonomy: Taxonomy, settings: EstimateConfig, **inputs: Any
    ) -> pd.DataFrame:
        labels = list(taxonomy.labels)
        votes = collect_votes(annotations, taxonomy)
        if supervised:
            inputs["annotations"] = annotations
        estimated = estimate(votes, settings, **inputs) if len(votes.clips) else 0.0
        probabilities = pd.DataFrame(estimated, votes.clips, labels)
        split = select_labelled_clips(annotations)["split"]
        probabilities = probabilities.reindex(split.index, fill_value=0.0)
        table = (probabilities > settings.threshold).astype(float)
        if settings.soft:
            train = split == "train"
            table[train] = probabilities[train].round(DIGITS)
        voted_train = (annotations["split"] == "train") & annotations["audio_filename"].isin(votes.clips)
        is_truth = (annotations["annotator_id"] == GROUND_TRUTH) & ~voted_train
        truth = (annotations[is_truth].set_index("audio_filename")[labels] == 1).astype(float)
        table.loc[truth.index] = truth
        if not settings.soft:
            table = table.astype(int)
        return table.set_index(split, append=True).swaplevel().sort_index().reset_index()

    return Rule(settings, aggregate, estimate, needs_model_outputs, supervised)
