"""The interface of label formats, and the annotations that they return."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from ust.audio.suffixes import list_recordings
from ust.util.errors import UserError, plural, shorten
from ust.util.names import find_file, nfc

WHOLE_RECORDING = (0.0, None)  # start and end of a whole recording
DECIMAL_COMMA = re.compile(r"\d+,\d+")


class Status(IntEnum):
    """Presence of a class in a clip or recording; `ust.datasets.presence` defines the values."""

    PRESENT = 1
    ABSENT = 0
    NOT_ASKED = -1
    UNCERTAIN = -2
    INFERRED_ABSENT = -3


@dataclass(frozen=True)
class Annotation:
    """One labelled segment of a recording."""

    path: Path  # the recording
    # Class name as written in the source. None with the status `PRESENT` means that no class is
    # audible; None with `UNCERTAIN` means that the class is unknown, so that it may be any.
    label: str | None
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None is the end of the recording
    annotator: str = ""  # name of the annotator; labels without a name ("") are ground truth
    # Recordings of a group, such as a sensor, stay in one split; "" makes each recording a group
    group: str = ""
    split: str = ""  # the split that the source assigns, or ""
    status: Status = Status.PRESENT  # any but `Status.INFERRED_ABSENT`
    certain: bool = True  # False if the source's name for the recording fits several, of which this is one
    where: str = field(default="", compare=False)  # file and line, for error messages


@dataclass(frozen=True)
class ImportOptions:
    """Options for reading a label source."""

    audio: Path | None = None  # folder of the recordings, if it is not the folder of the labels
    # Column of a table by its role (`ust.datasets.formats.label_table.ROLES`); "" if no column has it
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None  # separator of a table's columns; None to detect it
    validate_folds: tuple[str, ...] = ()  # folds to use as validate, for data sets with folds


@dataclass(frozen=True)
class MissingRecording:
    """Result of a failed search for a recording: the reason, and the recordings that the name may mean.

    `name` and `folder` are set if there is no such recording in the folder.
    """

    reason: str
    candidates: tuple[Path, ...] = ()
    name: str = ""
    folder: str = ""


@dataclass
class ImportedLabels:
    """The annotations of a label source, and its problems."""

    # Unreadable lines have the status `UNCERTAIN`, and the class and segment that they may concern.
    annotations: list[Annotation] = field(default_factory=list)
    # File, line and reason for each line that cannot be used
    problems: list[str] = field(default_factory=list)
    _missing: dict[str, tuple[int, list[str], int]] = field(default_factory=dict, repr=False)

    def _add_missing(self, where: str, missing: MissingRecording) -> None:
        """Add a recording that its folder does not have; all of one folder share a line of `problems`."""
        index, names, lines = self._missing.get(missing.folder, (len(self.problems), [], 0))
        names = names if missing.name in names else [*names, missing.name]
        self._missing[missing.folder] = index, names, lines + 1
        if index == len(self.problems):
            self.problems.append(f"{where}: {missing.reason}")
        else:
            self.problems[index] = (
                f"{plural(len(names), 'recording')} of {lines + 1} lines not found in {missing.folder}: "
                f"{shorten(names)}; --audio FOLDER sets the folder of the recordings"
            )

    @property
    def usable(self) -> bool:
        """Whether at least one line could be read."""
        return any(annotation.status != Status.UNCERTAIN for annotation in self.annotations)

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
        """Add a line of a source; of an unusable line, add the problem and an annotation `UNCERTAIN`."""
        if isinstance(recording, MissingRecording) and recording.folder and not problem:
            self._add_missing(where, recording)
            return
        if isinstance(recording, MissingRecording):
            self.problems.append(f"{where}: {problem and f'{problem}; '}{recording.reason}")
            self.annotations += [
                Annotation(
                    path,
                    label or None,
                    annotator=annotator,
                    status=Status.UNCERTAIN,
                    certain=False,
                    where=where,
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
        status = Status.UNCERTAIN if problem else Status.PRESENT
        self.annotations.append(
            Annotation(recording, label or None, *times, annotator, group, split, status, where=where)
        )


@dataclass(frozen=True)
class LabelFormat:
    """A label format, a row of `ust.datasets.formats.registry.FORMATS`."""

    description: str  # description in error messages
    matches: Callable[[Path], bool]  # ``matches(path)`` returns whether a file or folder has this format
    # ``read(path, options)`` returns `ImportedLabels`, or raises `UserError` for another format
    read: Callable[[Path, ImportOptions], ImportedLabels]


class RecordingIndex:
    """Finds recordings by the names in a label source; names are compared in NFC."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of recordings; set it with --audio")
        self.folder = folder
        self._by_name: dict[str, list[Path]] = {}
        for path in list_recordings(folder):
            for key in {nfc(path.name), nfc(path.stem)}:
                self._by_name.setdefault(key, []).append(path)

    def find(self, name: str) -> Path | MissingRecording:
        """Return the recording with a relative path, or with the best match of its last parts."""
        direct = find_file(self.folder, name)
        if direct is not None:
            return direct
        *parents, plain = nfc(name).replace("\\", "/").rstrip("/").split("/")
        candidates = self._by_name.get(plain, [])
        if len(candidates) > 1:  # /mnt/x/site_a/1.wav is site_a/1.wav, not site_b/1.wav
            common = [_common_tail(parents, path.relative_to(self.folder).parts[:-1]) for path in candidates]
            if max(common) > 0:
                candidates = [path for path, n in zip(candidates, common, strict=True) if n == max(common)]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            names = shorten([str(path.relative_to(self.folder)) for path in candidates])
            return MissingRecording(f"{name!r} may be {names}", tuple(candidates))
        reason = f"there is no recording {name!r} in {self.folder}; --audio FOLDER sets another folder"
        return MissingRecording(reason, name=name, folder=str(self.folder))


def _common_tail(first: list[str], second: tuple[str, ...]) -> int:
    """Return the number of equal parts at the ends of two paths."""
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != nfc(other):
            break
        count += 1
    return count


def parse_seconds(text: str, scale: float = 1.0) -> float | None:
    """Parse a time in units of `scale` seconds and return it in seconds; None if it is invalid."""
    try:
        value = float(text) * scale
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def parse_interval(
    start: str, end: str, scales: tuple[float, float] = (1.0, 1.0)
) -> tuple[float, float] | str:
    """Parse start and end and return them in seconds, or the reason why they are invalid."""
    times = [parse_seconds(text, scale) for text, scale in zip((start, end), scales, strict=True)]
    if None in times or times[1] < times[0]:
        comma = any(map(DECIMAL_COMMA.fullmatch, (start, end)))
        hint = "; write 1.5 for the decimal comma 1,5" if comma else ""
        return f"from {start!r} to {end!r} is not a time interval in seconds{hint}"
    return times[0], times[1]
