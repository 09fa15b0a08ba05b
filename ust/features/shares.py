"""The extraction of a feature as one piece of work, or as shares for workers that see the same folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ust.features.extraction import extract
from ust.features.feature import DESCRIPTION_FILE
from ust.features.rows import find_rows
from ust.features.table import FEATURES
from ust.files.documents import read_json
from ust.files.progress import Progress, silent


@dataclass(frozen=True)
class Extraction:
    """What is extracted from what.

    Attributes
    ----------
    name : str
        Of the feature.
    settings : dict
        Its section of params.yaml.
    audio, augmented, weights, out : Path
        As the stage extract takes them.
    threads : int
        Of the feature's network.
    device : str
        See `ust.compute.device.prepare`.
    """

    name: str
    settings: dict[str, Any]
    audio: Path
    augmented: Path
    weights: Path
    out: Path
    threads: int
    device: str

    @property
    def weights_words(self) -> str:
        """What weights its network has, for a message."""
        weights = read_json(self.weights / DESCRIPTION_FILE, made_by=f"weights@{self.name}").get("weights")
        return f", {weights} weights" if weights else ""

    def run(
        self, share: tuple[int, int] | None = None, *, progress: Progress = silent
    ) -> tuple[int, tuple[int, ...]]:
        """Extract all of it, or a share (see `extract`); the number of rows, and the shape of a value."""
        feature = FEATURES[self.name]
        description = read_json(self.weights / DESCRIPTION_FILE, made_by=f"weights@{self.name}")
        provenance = {key: description[key] for key in ("weights", "sha256") if key in description}
        network: dict[str, Any] = {"provenance": provenance}
        if feature.on_batch:
            from ust.compute.device import prepare

            device = prepare(device=self.device, threads=self.threads)
            computed = feature.of_settings(self.settings)
            network |= {
                "on_batch": feature.on_batch(self.weights, computed, device),
                "conditions": {
                    "batch_clips": self.settings["batch_clips"],
                    "threads": self.threads,
                    "device": device.type,
                },
            }
        rows = find_rows(self.audio, self.augmented)
        shape = extract(
            self.out, self.name, feature, rows, self.settings, share=share, progress=progress, **network
        )
        return len(rows), shape


def extract_share(extraction: Extraction, count: int, index: int) -> int:
    """Compute one of so many shares, counted from 0: a function for a worker; gives the index."""
    extraction.run((index + 1, count))
    return index
