"""Which clips to show: each system's most confident mistakes and best hits of each coarse class."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ust.annotations.reading import GROUND_TRUTH
from ust.annotations.taxonomy import Taxonomy

THRESHOLD = 0.5


@dataclass(frozen=True)
class Finding:
    """A clip in which a system was right or wrong about a class.

    Attributes
    ----------
    rank : int
        From 0, among those of the same system, split, class and side (mistakes or hits).
    clip, split, system, label : str
    kind : str
        "false alarm", "miss" or "hit".
    probability : float
        What the system gave the class.
    """

    rank: int
    clip: str
    split: str
    system: str
    label: str
    kind: str
    probability: float

    @property
    def confidence(self) -> float:
        """How sure the system was of its answer, from 1/2 to 1."""
        return 1 - self.probability if self.kind == "miss" else self.probability


def find(
    system: str,
    split: str,
    labels: pd.DataFrame,
    predicted: pd.DataFrame,
    taxonomy: Taxonomy,
    *,
    mistakes: int,
    hits: int,
) -> list[Finding]:
    """The most confident mistakes and hits of a system.

    Parameters
    ----------
    system, split : str
    labels, predicted : pandas.DataFrame
        By clip: label values from 0 to 1, and probabilities.
    taxonomy : Taxonomy
    mistakes, hits : int
        How many of each, at most, for each class.
    """
    found = []
    for label in taxonomy.coarse:
        p = predicted[label].to_numpy(np.float64)
        true, said = labels[label].to_numpy() > THRESHOLD, p > THRESHOLD
        confidence = np.where(said, p, 1 - p)
        for wanted, most in ((true != said, mistakes), (true & said, hits)):
            chosen = np.flatnonzero(wanted)
            # Equal ones by the clip's name.
            order = np.lexsort([labels.index[chosen].to_numpy(str), -confidence[chosen]])[:most]
            for rank, row in enumerate(chosen[order]):
                kind = "hit" if true[row] and said[row] else "miss" if true[row] else "false alarm"
                found.append(Finding(rank, str(labels.index[row]), split, system, label, kind, float(p[row])))
    return found


def within(findings: list[Finding], clips: int) -> list[Finding]:
    """The findings of at most so many clips, the first of each system and class before any second."""
    chosen: set[str] = set()
    for finding in sorted(findings, key=lambda f: (f.rank, -f.confidence, f.clip)):
        if len(chosen) < clips:
            chosen.add(finding.clip)
    return [finding for finding in findings if finding.clip in chosen]


def votes(annotations: pd.DataFrame, clip: str, taxonomy: Taxonomy) -> list[dict[str, object]]:
    """What was said of a clip: for each coarse label how many of those asked heard it; the agreed answer."""
    rows = annotations[annotations["audio_filename"] == clip]
    people = rows[rows["annotator_id"] != GROUND_TRUTH]
    agreed = rows[rows["annotator_id"] == GROUND_TRUTH]
    return [
        {
            "label": label,
            "heard": int((people[label] == 1).sum()),
            "asked": int((people[label] != -1).sum()),
            "agreed": None if agreed.empty else int(agreed[label].iloc[0]),
        }
        for label in taxonomy.coarse
    ]
