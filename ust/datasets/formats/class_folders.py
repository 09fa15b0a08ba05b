"""A folder of recordings for each class, with optional subfolders for fine classes."""

from pathlib import Path

from ust.audio.suffixes import list_recordings
from ust.datasets.formats.base import Annotation, ImportedLabels, ImportOptions, LabelFormat
from ust.util.errors import UserError
from ust.util.names import printable


def matches(path: Path) -> bool:
    """Return whether a folder has recordings in subfolders."""
    return path.is_dir() and any(other.parent != path for other in list_recordings(path))


def list_classes(path: Path) -> list[str]:
    """Return the classes of the folders."""
    return list(dict.fromkeys(annotation.label for annotation in read(path, ImportOptions()).annotations))


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Label recordings by their folders: ``market/voices/01.wav`` is "market: voices"."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder")
    imported = ImportedLabels()
    for recording in list_recordings(path):
        parts = recording.relative_to(path).parts[:-1]
        if not parts:
            imported.problems.append(f"{printable(recording)}: is not in the folder of a class")
        else:
            imported.annotations.append(Annotation(recording, ": ".join(parts[:2]), where=str(recording)))
    if not imported.annotations:
        raise UserError(f"{path}: has no folders with recordings in them")
    return imported


FORMAT = LabelFormat("a folder for each class", matches, read)
