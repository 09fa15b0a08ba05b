"""What a form of labels is, and what is read from it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ust.audio.suffixes import list_recordings
from ust.util.errors import UserError, shorten
from ust.util.names import find_file, nfc

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
IN_DOUBT = -2  # a line that may concern the class could not be placed; -1 in annotations.csv
WHOLE_RECORDING = (0.0, None)  # times of a whole recording
DECIMAL_COMMA = re.compile(r"\d+,\d+")


@dataclass(frozen=True)
class Annotation:
    """One annotator's label of a stretch of a recording.

    Attributes
    ----------
    path : Path
        The recording.
    label : str or None
        As written in the source. None: the annotator listened and names nothing; with the answer `IN_DOUBT`
        the class is not known, so that the line may concern any.
    start : float
        Seconds.
    end : float or None
        Seconds; None for the end of the recording.
    annotator : str
        The name; "" where labels come without one, and are taken as the ground truth.
    group : str
        What must stay on one side of a split, such as the sensor; "" for the recording itself.
    split : str
        Where it belongs to one already.
    status : int
        1 present, 0 explicitly absent, -1 unsure or not asked, `IN_DOUBT`.
    certain : bool
        False if the line names this recording among others that it may mean.
    where : str
        File and line, for messages.
    """

    path: Path
    label: str | None
    start: float = 0.0
    end: float | None = None
    annotator: str = ""
    group: str = ""
    split: str = ""
    status: int = PRESENT
    certain: bool = True
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class ImportOptions:
    """What people say of a source that it does not say itself.

    Attributes
    ----------
    audio : Path or None
        Folder of the recordings, where they do not lie beside their labels.
    columns : mapping of str to str
        A table's column by its role (`ust.datasets.formats.label_table.ROLES`); "" if it has none.
    separator : str or None
        Of a table's columns; None to look for it.
    validate_folds : tuple of str
        Of data sets with folds, those that are validated on.
    """

    audio: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    validate_folds: tuple[str, ...] = ()


@dataclass(frozen=True)
class MissingRecording:
    """Why a name identifies no recording, and the recordings that it may mean."""

    reason: str
    candidates: tuple[Path, ...] = ()


@dataclass
class ImportedLabels:
    """The labels of a source, and the lines of it that cannot be used.

    Attributes
    ----------
    annotations : list of Annotation
        Of a line that cannot be placed: the class and the stretch that it may concern, `IN_DOUBT`.
    problems : list of str
        One for each line that cannot be used: file, line and reason.
    """

    annotations: list[Annotation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether any line could be placed."""
        return any(each.status != IN_DOUBT for each in self.annotations)

    def add(
        self,
        where: str,
        recording: Path | MissingRecording,
        label: str | None,
        times: tuple[float, float | None] | str = WHOLE_RECORDING,
        *,
        problem: str = "",
        annotator: str = "",
        group: str = "",
        split: str = "",
    ) -> None:
        """Add a line of a source, or list why it cannot be used and put in doubt what it may concern.

        Parameters
        ----------
        where : str
            File and line.
        recording : Path or Missing
            What `Recordings.find` returned for the line.
        label : str or None
            None if the line says that nothing was heard, "" if it lacks a label.
        times : tuple of (start, end) or str
            Seconds, end None for that of the recording; or why there are none (see `parse_interval`).
        problem : str
            Another reason why the line cannot be used.
        annotator, group, split : str
            See `Annotation`.
        """
        if isinstance(recording, MissingRecording):
            self.problems.append(f"{where}: {problem and f'{problem}; '}{recording.reason}")
            self.annotations += [
                Annotation(
                    path, label or None, annotator=annotator, status=IN_DOUBT, certain=False, where=where
                )
                for path in recording.candidates
            ]
            return
        if isinstance(times, str):
            problem, times = problem or times, WHOLE_RECORDING
        if label == "":
            problem = problem or "has no label"
        if problem:
            self.problems.append(f"{where}: {problem}")
        answer = IN_DOUBT if problem else PRESENT
        said = Annotation(recording, label or None, *times, annotator, group, split, answer, where=where)
        self.annotations.append(said)


@dataclass(frozen=True)
class LabelFormat:
    """A row of `ust.datasets.formats.registry.FORMATS`.

    Attributes
    ----------
    words : str
        What it is.
    matches : callable
        Whether a file or folder is of this form.
    read : callable
        Raises a `UserError` if it is of another.
    """

    description: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, ImportOptions], ImportedLabels]


class RecordingIndex:
    """Finds recordings by the names that labels have for them; names compare in Unicode's form C.

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
            for key in {nfc(path.name), nfc(path.stem)}:
                self._by_name.setdefault(key, []).append(path)

    def find(self, name: str) -> Path | MissingRecording:
        """Return the file, by its place in the folder or by the end of its path, or why there is none."""
        direct = find_file(self.folder, name)
        if direct is not None:
            return direct
        *parents, plain = nfc(name).replace("\\", "/").rstrip("/").split("/")
        found = self._by_name.get(plain, [])
        if len(found) > 1:  # /mnt/x/site_a/1.wav is site_a/1.wav, not site_b/1.wav
            agreeing = [_common_tail(parents, path.relative_to(self.folder).parts[:-1]) for path in found]
            if max(agreeing) > 0:
                found = [path for path, n in zip(found, agreeing, strict=True) if n == max(agreeing)]
        if len(found) == 1:
            return found[0]
        if found:
            names = shorten([str(path.relative_to(self.folder)) for path in found])
            return MissingRecording(f"{name!r} may be {names}", tuple(found))
        return MissingRecording(f"there is no recording {name!r} in {self.folder}")


def _common_tail(first: list[str], second: tuple[str, ...]) -> int:
    """Return how many parts two paths have in common at their ends."""
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != nfc(other):
            break
        count += 1
    return count


def parse_seconds(text: str, scale: float = 1.0) -> float | None:
    """Return a time in seconds, given its text in units of `scale` seconds; None if it is no time."""
    try:
        value = float(text) * scale
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def parse_interval(
    start: str, end: str, scales: tuple[float, float] = (1.0, 1.0)
) -> tuple[float, float] | str:
    """Return start and end in seconds, given their texts, or the reason why they are no stretch of time."""
    times = [parse_seconds(text, scale) for text, scale in zip((start, end), scales, strict=True)]
    if None in times or times[1] < times[0]:
        comma = any(map(DECIMAL_COMMA.fullmatch, (start, end)))
        hint = "; write 1.5 for the decimal comma 1,5" if comma else ""
        return f"from {start!r} to {end!r} is no stretch of time in seconds{hint}"
    return times[0], times[1]
