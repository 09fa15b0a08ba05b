"""Label tracks exported by Audacity: lines of start, end (seconds) and label, separated by tabs."""

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


def list_tracks(path: Path) -> list[Path]:
    """Return the label tracks at a path: the file itself, or all in a folder."""
    return sorted(path.rglob("*.txt")) if path.is_dir() else [path]


def matches(path: Path) -> bool:
    """Return whether the first file looks like a label track."""
    candidates = [track for track in list_tracks(path) if track.suffix.lower() == ".txt" and track.is_file()]
    if not candidates or is_selection_table(candidates[0]):
        return False
    return "\t" in first_line(candidates[0])


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read label tracks, each named after its recording, such as ``street.txt`` or ``street.wav.txt``."""
    imported = ImportedLabels()
    audio = RecordingIndex(options.audio or (path if path.is_dir() else path.parent))
    tracks = list_tracks(path)
    if not tracks:
        raise UserError(f"{path}: has no label tracks (.txt)")
    for track in tracks:
        recording = audio.find(track.stem)
        if isinstance(recording, MissingRecording):
            imported.add(str(track), recording, "")
            continue
        try:
            lines = track.read_text("utf-8-sig").split("\n")
        except (UnicodeDecodeError, OSError) as error:
            problem = str(error.strerror) if isinstance(error, OSError) else "is not text in UTF-8"
            imported.add(str(track), recording, "", problem=problem)
            continue
        if not any(line.strip() for line in lines):
            imported.add(str(track), recording, None)  # an empty track states that no class is audible
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("\\"):  # the frequency range of the previous label
                continue
            cells = [cell.strip() for cell in line.split("\t")]
            where = f"{track}: line {number}"
            if len(cells) < 2:
                problem = f"{line[:80]!r} does not begin with two times"
                imported.add(where, recording, "", problem=problem)
            else:
                start, end, label = [*cells, ""][:3]
                imported.add(where, recording, label, parse_interval(start, end))
    return imported


FORMAT = LabelFormat("Audacity's label tracks", matches, read)
