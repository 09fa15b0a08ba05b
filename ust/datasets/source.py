"""The interface of data sources."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ust.util.config import Section
from ust.util.progress import Progress, silent

ANNOTATIONS, TAXONOMY, AUDIO = "annotations.csv", "dcase-ust-taxonomy.yaml", "audio"


@dataclass(frozen=True)
class Summary:
    """Result of fetching a data set."""

    clips: dict[str, int]  # clips per split
    # Number of clips by needed conversion, see `ust.audio.recordings.Recording.conversions`
    conversions: dict[str, int]
    skipped: tuple[str, ...]  # one line per skipped clip, with the reason
    incomplete: tuple[str, ...] = ()  # one line per incomplete file, which was used as far as it can be read


@dataclass(frozen=True)
class FetchContext:
    """The folders and options that a source fetches its data with.

    Attributes
    ----------
    folder : Path
        Folder for ``annotations.csv``, ``dcase-ust-taxonomy.yaml`` and ``audio/<split>/<audio_filename>``.
    out : Path
        Final path of this folder, the output of the stage.
    resolve_path : callable
        Function from a path in params.yaml to an absolute path.
    cache : Path
        Download cache.
    zenodo : str
        URL of Zenodo or of a mirror.
    scored : tuple of str
        Splits to evaluate; they need ground truth.
    progress : callable
        Progress bar, see `ust.util.progress.Progress`.
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
    """A data source, a row of `ust.datasets.registry.SOURCES`.

    Attributes
    ----------
    fetch : callable
        ``fetch(context, data)`` fills the folder of a `FetchContext`; ``data`` is the section of params.yaml.
    settings : type, optional
        Class of the source's own settings, ``data.<source>`` in params.yaml.
    check : callable, optional
        Raises ValueError if a parameter of the section does not fit the source.
    latest : str, optional
        The version for ``data.release: null``; None if the source has no releases.
    """

    fetch: Callable[[FetchContext, Any], Summary]
    settings: type[Section] | None = None
    check: Callable[[Any], None] | None = None
    latest: str | None = None
