"""What the volunteers said, as arrays, and rules that are made of an estimate from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.labels import Rule, is_scorable
from ust.annotations.taxonomy import Taxonomy
from ust.util.config import Rate, Section

DIGITS = 6  # of soft labels


class EstimateConfig(Section):
    """How an estimate becomes a label."""

    threshold: Rate
    soft: bool


@dataclass(frozen=True)
class Votes:
    """Who said what of which clip, a row for each annotator and clip, sorted by clip.

    Attributes
    ----------
    taxonomy : Taxonomy
    clips : numpy.ndarray [shape=(clips,), str]
        Sorted.
    split : numpy.ndarray [shape=(clips,), str]
    sensors : numpy.ndarray [shape=(clips,), int]
        The number of each clip's sensor, from 0.
    annotators : numpy.ndarray [shape=(annotators,), int]
    clip, annotator : numpy.ndarray [shape=(rows,), int]
        Indices into `clips` and `annotators`.
    presence : numpy.ndarray [shape=(rows, labels), int8]
        Coarse labels first: 1 heard, 0 not heard, -1 not asked.
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
        """Sums over each clip's rows [shape=(clips, …)] of values (rows, …)."""
        return np.add.reduceat(values, np.flatnonzero(np.diff(self.clip, prepend=-1)), axis=0)

    def sum_by_annotator(self, values: np.ndarray) -> np.ndarray:
        """Sums over each annotator's rows [shape=(annotators,)] of values (rows,)."""
        return np.bincount(self.annotator, values, len(self.annotators))

    def fraction(self) -> np.ndarray:
        """The share of those asked who heard it [shape=(clips, labels)]; 0 where nobody was asked."""
        heard, asked = self.sum_by_clip(self.presence == 1), self.sum_by_clip(self.presence != -1)
        return heard / np.maximum(asked, 1)


def collect_votes(annotations: pd.DataFrame, taxonomy: Taxonomy) -> Votes:
    """The volunteers' votes on the clips of all splits; of clips without any volunteer the team's.

    A row that an annotator has twice for a clip, with the same answers, counts once; with others, each
    counts. Neither the order of the rows nor the names of the annotators matter.
    """
    labels = list(taxonomy.labels)
    people = annotations[annotations["annotator_id"] != GROUND_TRUTH]
    volunteer, clip = people["annotator_id"] > 0, people["audio_filename"]
    rows = people[volunteer | ~clip.isin(clip[volunteer])]
    rows = rows.drop_duplicates(["audio_filename", "annotator_id", *labels])
    rows = rows.sort_values(["audio_filename", "annotator_id", *labels], kind="stable")
    clips, index = np.unique(rows["audio_filename"].to_numpy(str), return_inverse=True)
    annotators, annotator = np.unique(rows["annotator_id"].to_numpy(), return_inverse=True)
    of_clip = rows.groupby("audio_filename")[["split", "sensor_id"]].first()
    _, sensors = np.unique(of_clip["sensor_id"].to_numpy(str), return_inverse=True)
    split, said = of_clip["split"].to_numpy(str), rows[labels].to_numpy(np.int8)
    return Votes(taxonomy, clips, split, sensors, annotators, index, annotator, said)


Estimate = Callable[..., np.ndarray]


def rule_from_estimate(settings: type[EstimateConfig], estimate: Estimate, **traits: Any) -> Rule:
    """A rule of an estimate: from `Votes` and settings to probabilities (clips, labels).

    Train clips have the estimate itself (`soft`), or whether it is above `threshold`; those of which nobody
    said anything have only zeros. Scored clips have their ground truth; where their split has none, hard
    labels. ``**traits`` are those of `Rule`; embeddings and annotations are passed on to the estimate,
    too.
    """

    def aggregate(
        annotations: pd.DataFrame, taxonomy: Taxonomy, settings: EstimateConfig, **given: Any
    ) -> pd.DataFrame:
        labels = list(taxonomy.labels)
        votes = collect_votes(annotations, taxonomy)
        known = {"annotations": annotations} if traits.get("supervised") else {}
        estimated = pd.DataFrame(estimate(votes, settings, **known, **given), votes.clips, labels)
        rows = annotations[is_scorable(annotations)]
        split = rows.groupby("audio_filename")["split"].first()
        found = estimated.reindex(split.index, fill_value=0.0)
        hard = (found > settings.threshold).astype(float)
        if settings.soft:
            hard[split == "train"] = found[split == "train"].round(DIGITS)
        truth = rows[(rows["annotator_id"] == GROUND_TRUTH) & (rows["split"] != "train")]
        agreed = (truth.set_index("audio_filename")[labels] == 1).astype(float)
        hard.loc[agreed.index] = agreed
        table = hard if settings.soft else hard.astype(int)
        table.insert(0, "split", split)
        return table.reset_index().sort_values(["split", "audio_filename"], kind="stable", ignore_index=True)[
            ["split", "audio_filename", *labels]
        ]

    return Rule(settings, aggregate, estimate=estimate, **traits)
