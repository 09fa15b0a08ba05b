"""What a source of data is, and what it leaves behind."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ust.util.config import Section
from ust.util.progress import Progress, silent

ANNOTATIONS, TAXONOMY = "annotations.csv", "dcase-ust-taxonomy.yaml"


@dataclass(frozen=True)
class Summary:
    """What a source brought.

    Attributes
    ----------
    clips : dict of str to int
        Clips per split.
    conversions : dict of str to int
        How many of them need which conversion when read (see `ust.audio.recordings.Recording.conversions`).
    skipped : tuple of str
        One line per clip that was left out, with the reason.
    incomplete : tuple of str
        One line per file of which only a part is there, and used.
    """

    clips: dict[str, int]
    conversions: dict[str, int]
    skipped: tuple[str, ...]
    incomplete: tuple[str, ...] = ()


@dataclass(frozen=True)
class Destination:
    """Where a source works.

    Attributes
    ----------
    folder : Path
        To fill: ``annotations.csv``, ``dcase-ust-taxonomy.yaml`` and ``audio/<split>/<audio_filename>``.
    out : Path
        What becomes of that folder.
    resolve_path : callable
        From a path of params.yaml to one of this machine.
    cache : Path
        Where downloads are kept.
    zenodo : str
        Address of Zenodo, or of a mirror.
    scored : tuple of str
        Splits that metrics will be computed on, which need ground truth.
    progress : Progress
    """

    folder: Path
    out: Path
    resolve_path: Callable[[str], Path]
    cache: Path
    zenodo: str = "https://zenodo.org"
    scored: tuple[str, ...] = ()
    progress: Progress = silent


@dataclass(frozen=True)
class Source:
    """A row of `ust.datasets.registry.SOURCES`.

    Attributes
    ----------
    bring : callable
        Fills a `Destination`, given the section ``data`` of params.yaml.
    settings : type, optional
        Of the source's own part of that section, which has its name.
    check : callable, optional
        Raises ValueError if the section lacks what the source needs.
    latest : str, optional
        The version that ``data.release: null`` stands for; None where a source has no releases.
    """

    fetch: Callable[[Destination, Any], Summary]
    settings: type[Section] | None = None
    check: Callable[[Any], None] | None = None
    latest: str | None = None
