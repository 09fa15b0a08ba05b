"""The volunteers' votes as arrays, and rules that estimate label probabilities from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.labels import Rule, is_scorable
from ust.annotations.taxonomy import Taxonomy
from ust.util.config import Rate, Section

DIGITS = 6  # decimals of soft labels


class EstimateConfig(Section):
    """Parameters that turn probabilities into labels."""

    threshold: Rate = 0.5
    """A label is positive if its probability is above this."""
    soft: bool = True
    """Whether the labels of train clips are the probabilities, instead of 0 or 1."""


@dataclass(frozen=True)
class Votes:
    """Annotations as arrays, with a row for each annotator and clip, sorted by clip.

    Attributes
    ----------
    clips : numpy.ndarray [shape=(clips,), str]
        Sorted.
    sensors : numpy.ndarray [shape=(clips,), int]
        Index of each clip's sensor, from 0.
    annotators : numpy.ndarray [shape=(annotators,), int]
        Their annotator_id.
    clip, annotator : numpy.ndarray [shape=(rows,), int]
        Indices into `clips` and `annotators`.
    presence : numpy.ndarray [shape=(rows, labels), int8]
        Coarse labels first: 1 present, 0 absent, -1 not asked.
    """

    taxonomy: Taxonomy
    clips: np.ndarray
    split: np.ndarray
    sensors: np.ndarray
    annotators: np.ndarray
    clip: np.ndarray
    annotator: np.ndarray
    presence: np.ndarray

    def sum_by_clip(self, values: np.ndarray) -> np.ndarray:
        """Sum values (rows, …) over the rows of each clip [shape=(clips, …)]."""
        return np.add.reduceat(values, np.flatnonzero(np.diff(self.clip, prepend=-1)), axis=0)

    def sum_by_annotator(self, values: np.ndarray) -> np.ndarray:
        """Sum values (rows,) over the rows of each annotator [shape=(annotators,)]."""
        return np.bincount(self.annotator, values, len(self.annotators))

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
    rows = rows.drop_duplicates(["audio_filename", "annotator_id", *labels])
    rows = rows.sort_values(["audio_filename", "annotator_id", *labels], kind="stable")
    clips, index = np.unique(rows["audio_filename"].to_numpy(str), return_inverse=True)
    annotators, annotator = np.unique(rows["annotator_id"].to_numpy(), return_inverse=True)
    by_clip = rows.groupby("audio_filename")[["split", "sensor_id"]].first()
    _, sensors = np.unique(by_clip["sensor_id"].to_numpy(str), return_inverse=True)
    split, presence = by_clip["split"].to_numpy(str), rows[labels].to_numpy(np.int8)
    return Votes(taxonomy, clips, split, sensors, annotators, index, annotator, presence)


Estimate = Callable[..., np.ndarray]


def rule_from_estimate(settings: type[EstimateConfig], estimate: Estimate, **traits: Any) -> Rule:
    """Make a rule from a function that estimates label probabilities.

    The labels of train clips are the probabilities if ``soft`` is set, and otherwise whether these are above
    ``threshold``; clips without votes get zeros. Clips of other splits get their ground truth, or hard labels
    if their split has none.
    """

    def aggregate(
        annotations: pd.DataFrame, taxonomy: Taxonomy, settings: EstimateConfig, **inputs: Any
    ) -> pd.DataFrame:
        labels = list(taxonomy.labels)
        votes = collect_votes(annotations, taxonomy)
        if traits.get("supervised"):
            inputs["annotations"] = annotations
        estimated = pd.DataFrame(estimate(votes, settings, **inputs), votes.clips, labels)
        rows = annotations[is_scorable(annotations)]
        split = rows.groupby("audio_filename")["split"].first()
        soft = estimated.reindex(split.index, fill_value=0.0)
        hard = (soft > settings.threshold).astype(float)
        if settings.soft:
            hard[split == "train"] = soft[split == "train"].round(DIGITS)
        truth = rows[(rows["annotator_id"] == GROUND_TRUTH) & (rows["split"] != "train")]
        verified = (truth.set_index("audio_filename")[labels] == 1).astype(float)
        hard.loc[verified.index] = verified
        table = hard if settings.soft else hard.astype(int)
        table.insert(0, "split", split)
        return table.reset_index().sort_values(["split", "audio_filename"], kind="stable", ignore_index=True)[
            ["split", "audio_filename", *labels]
        ]

    return Rule(settings, aggregate, estimate=estimate, **traits)
