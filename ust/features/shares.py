"""The extraction of a feature as one piece of work, or as shares for workers that see the same folders."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ust.features.extraction import extract
from ust.features.feature import DESCRIPTION_FILE
from ust.features.rows import Row, find_rows
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
    rows : tuple of Row or None
        What it is extracted of, where that is not all in the folders.
    """

    name: str
    settings: dict[str, Any]
    audio: Path
    augmented: Path
    weights: Path
    out: Path
    threads: int
    device: str
    rows: tuple[Row, ...] | None = None

    @cached_property
    def description(self) -> dict[str, Any]:
        """What the stage weights says of its network; nothing where it has none."""
        return read_json(self.weights / DESCRIPTION_FILE, made_by=f"weights@{self.name}")

    @property
    def everywhere(self) -> "Extraction":
        """The same for workers, who may be in another folder."""
        places = ("audio", "augmented", "weights", "out")
        return replace(self, **{name: getattr(self, name).resolve() for name in places})

    def run(
        self, share: tuple[int, int] | None = None, *, progress: Progress = silent
    ) -> tuple[int, tuple[int, ...]]:
        """Extract all of it, or a share (see `extract`); the number of rows, and the shape of a value."""
        feature = FEATURES[self.name]
        provenance = {key: self.description[key] for key in ("weights", "sha256") if key in self.description}
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
        rows = find_rows(self.audio, self.augmented) if self.rows is None else list(self.rows)
        shape = extract(
            self.out, self.name, feature, rows, self.settings, share=share, progress=progress, **network
        )
        return len(rows), shape


def extract_share(extraction: Extraction, count: int, index: int) -> int:
    """Compute one of so many shares, counted from 0: a function for a worker; gives the index."""
    extraction.run((index + 1, count))
    return index
