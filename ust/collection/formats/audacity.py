"""Label tracks as Audacity exports them: start, end and label in seconds, separated by tabs."""

from pathlib import Path

from ust.collection.formats.form import Form, Options, Read, Recordings, Said, seconds
from ust.collection.formats.raven import is_selection_table
from ust.files.errors import UserError


def tracks(path: Path) -> list[Path]:
    """The label tracks that a path names: itself, or those in a folder."""
    return sorted(path.rglob("*.txt")) if path.is_dir() else [path]


def matches(path: Path) -> bool:
    """Whether the first track looks like one."""
    found = [track for track in tracks(path) if track.suffix.lower() == ".txt" and track.is_file()]
    if not found or is_selection_table(found[0]):
        return False
    with found[0].open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(2**16).count("\t") >= 1


def read(path: Path, options: Options) -> Read:
    """A track for each recording, named after it: ``street.txt`` or ``street.wav.txt`` of ``street.wav``."""
    found = Read()
    audio = Recordings(options.audio or (path if path.is_dir() else path.parent))
    labelled = tracks(path)
    if not labelled:
        raise UserError(f"{path}: has no label tracks, which end in .txt")
    for track in labelled:
        recording = audio.find(track.stem)
        if isinstance(recording, str):
            found.problems.append(f"{track}: {recording}")
            continue
        try:
            lines = track.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            found.problems.append(f"{track}: is not text in UTF-8")
            continue
        except OSError as error:
            found.problems.append(f"{track}: {error.strerror}")
            continue
        said = []
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("\\"):  # the frequencies of the label before
                continue
            start, end, label = [part.strip() for part in [*line.split("\t"), "", ""][:3]]
            times = [seconds(text) for text in (start, end)]
            if None in times or times[1] < times[0]:
                found.problems.append(f"{track}: line {number}: {line[:80]!r} does not begin with two times")
            elif not label:
                found.problems.append(f"{track}: line {number}: has no label")
            else:
                said.append(Said(recording, label, *times))
        # An empty track says that nothing was heard; one of which nothing can be used says nothing.
        found.said += said or ([] if any(line.strip() for line in lines) else [Said(recording, None)])
    return found


FORM = Form("Audacity's label tracks", matches, read)
