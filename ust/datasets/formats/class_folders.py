"""A folder for each class, with its recordings in it; below it, perhaps, a folder for each fine label."""

from pathlib import Path

from ust.audio.suffixes import list_recordings
from ust.datasets.formats.base import Annotation, ImportedLabels, ImportOptions, LabelFormat
from ust.util.errors import UserError
from ust.util.names import printable


def matches(path: Path) -> bool:
    """Whether there are recordings in folders."""
    return path.is_dir() and any(other.parent != path for other in list_recordings(path))


def list_classes(path: Path) -> list[str]:
    """The classes that folders are of.

    Raises
    ------
    UserError
        If there are none.
    """
    return list(dict.fromkeys(said.label for said in read(path, ImportOptions()).annotations))


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """What folders say: of ``market/voices/01.wav`` the label "market: voices"."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder")
    found = ImportedLabels()
    for recording in list_recordings(path):
        parts = recording.relative_to(path).parts[:-1]
        if not parts:
            found.problems.append(f"{printable(recording)}: lies in no class's folder")
        else:
            found.annotations.append(Annotation(recording, ": ".join(parts[:2]), where=str(recording)))
    if not found.annotations:
        raise UserError(f"{path}: has no folders with recordings in them")
    return found


FORMAT = LabelFormat("a folder for each class", matches, read)
