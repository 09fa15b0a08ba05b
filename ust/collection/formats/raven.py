"""Selection tables of Raven: a tab-separated table for each recording, or for several."""

from pathlib import Path

from ust.collection.formats.form import Form, Options, Read, Recordings, Said, seconds
from ust.collection.formats.tables import rows
from ust.files.errors import UserError

BEGIN, END = "Begin Time (s)", "End Time (s)"
FILES = ("Begin Path", "Begin File")
OFFSET = "File Offset (s)"
LABELS = ("Annotation", "Label", "Tags", "Class", "Species", "Common Name")
ENDINGS = (".selections", ".Table.1", ".Table.2", ".BirdNET", ".results")


def is_selection_table(path: Path) -> bool:
    """Whether a file's first line is that of a selection table."""
    if not path.is_file() or path.suffix.lower() not in (".txt", ".tsv", ".csv"):
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return BEGIN in file.readline(2**16)


def tables(path: Path) -> list[Path]:
    """The tables that a path names: itself, or those in a folder."""
    return (
        [table for table in sorted(path.rglob("*.txt")) if is_selection_table(table)]
        if path.is_dir()
        else [path]
    )


def read(path: Path, options: Options) -> Read:
    """A row for each selection; one in two views counts once.

    The recording is the one that ``Begin Path`` or ``Begin File`` names, or the table is named after it.
    """
    found = Read()
    audio = Recordings(options.audio or (path if path.is_dir() else path.parent))
    for table in tables(path):
        seen: set[tuple[object, ...]] = set()
        columns: tuple[str | None, str | None] | None = None
        for number, row in rows(table, "\t"):
            columns = columns or _columns(table, row, options)
            file, label = columns
            place = row[file] if file and row[file] else _stem(table)
            begin, end = seconds(row[BEGIN]), seconds(row[END])
            where = f"{table}: line {number}"
            recording = audio.find(place)
            if isinstance(recording, str):
                found.problems.append(f"{where}: {recording}")
            elif begin is None or end is None or end < begin:
                found.problems.append(f"{where}: from {row[BEGIN]!r} to {row[END]!r} is no stretch of time")
            elif not row[label]:
                found.problems.append(f"{where}: has no label in the column {label!r}")
            else:
                # Times are in all files that were opened together; the offset is in this one.
                offset = seconds(row.get(OFFSET, "")) if file else None
                shift = 0.0 if offset is None else offset - begin
                said = Said(recording, row[label], begin + shift, end + shift)
                key = (row.get("Selection", number), *said)
                if key not in seen:
                    seen.add(key)
                    found.said.append(said)
        if columns is None:  # selected nothing
            recording = audio.find(_stem(table))
            if isinstance(recording, str):
                found.problems.append(f"{table}: {recording}")
            else:
                found.said.append(Said(recording, None))
    return found


def _columns(table: Path, row: dict[str, str], options: Options) -> tuple[str | None, str]:
    for name in (BEGIN, END):
        if name not in row:
            raise UserError(f"{table}: has no column {name!r}, should be a selection table of Raven")
    wanted = options.columns.get("label")
    found = [name for name in ((wanted,) if wanted else LABELS) if name in row]
    if not found:
        raise UserError(
            f"{table}: which column holds the label? It has {', '.join(row)}; say --column label=NAME"
        )
    return next((name for name in FILES if name in row), None), found[0]


def _stem(table: Path) -> str:
    stem = table.stem
    while ending := next((ending for ending in ENDINGS if stem.endswith(ending)), None):
        stem = stem.removesuffix(ending)
    return stem


FORM = Form("Raven's selection tables", lambda path: any(map(is_selection_table, tables(path))), read)
