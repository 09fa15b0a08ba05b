"""Label tracks as Audacity exports them: start, end and label in seconds, separated by tabs."""

from pathlib import Path

from ust.datasets.formats.base import (
    ImportedLabels,
    ImportOptions,
    LabelFormat,
    MissingRecording,
    RecordingIndex,
    parse_interval,
)
from ust.datasets.formats.label_table import first_line
from ust.datasets.formats.raven import is_selection_table
from ust.util.errors import UserError


def tracks(path: Path) -> list[Path]:
    """Return the label tracks that a path names: itself, or those in a folder."""
    return sorted(path.rglob("*.txt")) if path.is_dir() else [path]


def matches(path: Path) -> bool:
    """Return whether the first track looks like one."""
    found = [track for track in tracks(path) if track.suffix.lower() == ".txt" and track.is_file()]
    if not found or is_selection_table(found[0]):
        return False
    return "\t" in first_line(found[0])


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read a track for each recording, named after it, such as ``street.txt`` or ``street.wav.txt``."""
    found = ImportedLabels()
    audio = RecordingIndex(options.audio or (path if path.is_dir() else path.parent))
    labelled = tracks(path)
    if not labelled:
        raise UserError(f"{path}: has no label tracks, which end in .txt")
    for track in labelled:
        recording = audio.find(track.stem)
        if isinstance(recording, MissingRecording):
            found.add(str(track), recording, "")
            continue
        try:
            lines = track.read_text("utf-8-sig").split("\n")
        except UnicodeDecodeError:
            found.add(str(track), recording, "", problem="is not text in UTF-8")
            continue
        except OSError as error:
            found.add(str(track), recording, "", problem=str(error.strerror))
            continue
        if not any(line.strip() for line in lines):
            found.add(str(track), recording, None)  # an empty track says that nothing was heard
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("\\"):  # the frequencies of the label before
                continue
            cells = [cell.strip() for cell in line.split("\t")]
            where = f"{track}: line {number}"
            if len(cells) < 2:
                problem = f"{line[:80]!r} does not begin with two times"
                found.add(where, recording, "", problem=problem)
            else:
                start, end, label = [*cells, ""][:3]
                found.add(where, recording, label, parse_interval(start, end))
    return found


FORMAT = LabelFormat("Audacity's label tracks", matches, read)
