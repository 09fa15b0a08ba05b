"""Selection tables of Raven: a tab-separated table for each recording, or for several."""

from dataclasses import replace
from pathlib import Path

from ust.datasets.formats.base import (
    WHOLE_RECORDING,
    ImportedLabels,
    ImportOptions,
    LabelFormat,
    RecordingIndex,
    parse_seconds,
)
from ust.datasets.formats.label_table import find_columns, first_line, read_label_table
from ust.util.errors import UserError

BEGIN, END = "Begin Time (s)", "End Time (s)"
FILES = ("Begin Path", "Begin File")
OFFSET = "File Offset (s)"
ENDINGS = (".selections", ".Table.1", ".Table.2", ".BirdNET", ".results")


def is_selection_table(path: Path) -> bool:
    """Return whether the first line of a file is the header of a selection table."""
    tabular = path.is_file() and path.suffix.lower() in (".txt", ".tsv", ".csv")
    return tabular and BEGIN in first_line(path)


def list_tables(path: Path) -> list[Path]:
    """Return the selection tables at a path: the file itself, or all in a folder."""
    return (
        [table for table in sorted(path.rglob("*.txt")) if is_selection_table(table)]
        if path.is_dir()
        else [path]
    )


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read the selections of each table; a selection in two views counts once.

    ``Begin Path`` or ``Begin File`` names the recording; without them, the name of the table does.
    """
    imported = ImportedLabels()
    audio = RecordingIndex(options.audio or (path if path.is_dir() else path.parent))
    errors: list[UserError] = []
    tables = list_tables(path)
    for table in tables:
        try:
            _read_table(table, audio, options, imported)
        except UserError as error:  # the other tables are still read
            errors.append(error)
            recording = audio.find(_stem(table))
            if isinstance(recording, Path):
                imported.add(str(table), recording, "", problem=str(error).removeprefix(f"{table}: "))
            else:
                imported.problems.append(str(error))
    if errors and len(errors) == len(tables):
        raise errors[0]
    return imported


def _read_table(path: Path, audio: RecordingIndex, options: ImportOptions, imported: ImportedLabels) -> None:
    """Add the selections of a table."""
    table = read_label_table(path, options.separator)
    for name in (BEGIN, END):
        if name not in table.header:
            raise UserError(f"{path}: has no column {name!r}, should be a selection table of Raven")
    if not table.rows and not table.malformed:  # no selections
        imported.add(str(path), audio.find(_stem(path)), None)
        return
    time_columns = {"start": BEGIN, "end": END, **options.columns}
    columns = find_columns(table, replace(options, columns=time_columns), needed=("label",))
    file = options.columns.get("path") or next((name for name in FILES if name in table.header), None)
    # With several files, times count from the start of the first one; File Offset is relative to each file.
    several = file and len({row[file] for _, row in table.rows}) > 1 and "start" not in options.columns
    seen: set[tuple[object, ...]] = set()
    for number, row in table.rows:
        recording = audio.find(row[file] if file and row[file] else _stem(path))
        label, times, problem = columns.value(row, "label"), columns.times(row), ""
        if times == WHOLE_RECORDING:
            times = f"has no {BEGIN!r} and no {END!r}"
        if not isinstance(times, str) and file and row.get(OFFSET):
            times = _shift_to(times, row[OFFSET])
        elif several:
            problem = (
                f"the table has several recordings and no {OFFSET!r} here: export it with that column, "
                f"or say --column 'start={BEGIN}' if times count from the beginning of each"
            )
        if not label:
            problem = problem or f"has no label in the column {columns.names['label']!r}"
        key = (row.get("Selection", number), recording, label, times)
        if key not in seen:
            seen.add(key)
            imported.add(f"{path}: line {number}", recording, label, times, problem=problem)
    for number, cells in table.malformed:
        problem = table.malformed_reason(cells)
        imported.add(f"{path}: line {number}", audio.find(_stem(path)), "", problem=problem)


def _shift_to(times: tuple[float, float | None], offset: str) -> tuple[float, float | None] | str:
    """Move a segment so that it starts at an offset; return a string if the offset is invalid."""
    start, end = times
    begin = parse_seconds(offset)
    if begin is None:
        return f"{OFFSET!r} is {offset!r}, which is no time in seconds"
    return begin, None if end is None else end - start + begin


def _stem(table: Path) -> str:
    """Return the name of a table without the suffixes that Raven and BirdNET add."""
    stem = table.stem
    while ending := next((ending for ending in ENDINGS if stem.endswith(ending)), None):
        stem = stem.removesuffix(ending)
    return stem


FORMAT = LabelFormat(
    "Raven's selection tables", lambda path: any(map(is_selection_table, list_tables(path))), read
)
