"""What a form of labels is, and what is read from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ust.audio.suffixes import list_recordings
from ust.files.errors import UserError, some

HEARD, ABSENT, UNSURE = 1, 0, -1


class Said(NamedTuple):
    """What somebody said of a stretch of a recording.

    Attributes
    ----------
    path : Path
        Of the recording.
    label : str or None
        As it is written there; None where somebody listened and names nothing.
    start : float
        Seconds.
    end : float or None
        Seconds; None for the end of the recording.
    annotator : str
        The name; "" where the labels are given without one, and are taken as the truth.
    group : str
        What must not be on both sides of a split, such as the sensor; "" for the recording itself.
    split : str
        Where it belongs to one already.
    answer : int
        1 heard, 0 not heard, -1 unsure or not asked.
    """

    path: Path
    label: str | None
    start: float = 0.0
    end: float | None = None
    annotator: str = ""
    group: str = ""
    split: str = ""
    answer: int = HEARD


@dataclass(frozen=True)
class Options:
    """What people say of a source that it does not say itself.

    Attributes
    ----------
    audio : Path or None
        Folder of the recordings, where they do not lie beside their labels.
    columns : mapping of str to str
        Of a table, by what they hold: path, label, start, end, annotator, group.
    separator : str or None
        Of a table's columns; None to look for it.
    validate_folds : tuple of str
        Of data sets with folds, those that are validated on.
    """

    audio: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    validate_folds: tuple[str, ...] = ()


@dataclass
class Read:
    """What was read from a source, and what of it cannot be used.

    Attributes
    ----------
    said : list of Said
    problems : list of str
        A line each, with the reason.
    """

    said: list[Said] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Form:
    """A row of `ust.collection.formats.table.FORMS`.

    Attributes
    ----------
    words : str
        What it is.
    matches : callable
        Whether a file or folder is of this form.
    read : callable
        Raises a `UserError` if it is of another.
    """

    words: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Options], Read]


class Recordings:
    """Finds recordings by the names that labels have for them.

    Parameters
    ----------
    folder : Path
        Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of recordings; name it by --audio")
        self.folder = folder
        self._by_name: dict[str, list[Path]] = {}
        for path in list_recordings(folder):
            for key in {path.name, path.stem}:
                self._by_name.setdefault(key, []).append(path)

    def find(self, name: str) -> Path | str:
        """The file, by its place in the folder or by its name alone, or the reason why there is none."""
        direct = self.folder / name
        if name and direct.is_file():
            return direct
        plain = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
        found = self._by_name.get(plain, [])
        if len(found) > 1:
            return f"{name!r} may be {some([str(path.relative_to(self.folder)) for path in found])}"
        return found[0] if found else f"there is no recording {name!r} in {self.folder}"


def seconds(text: str) -> float | None:
    """A time in seconds; None of what is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None
