"""Tables of labels: CSV with any separator, and the tables of ESC-50 and UrbanSound8K."""

from collections.abc import Iterator
from pathlib import Path

from ust.datasets.formats.base import (
    WHOLE_RECORDING,
    ImportedLabels,
    ImportOptions,
    LabelFormat,
    MissingRecording,
    RecordingIndex,
)
from ust.datasets.formats.label_table import find_columns, read_label_table
from ust.util.errors import UserError
from ust.util.names import SPLITS, find_file


def is_table(path: Path) -> bool:
    """Return whether a file has the suffix of a table."""
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv")


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read a table with one label per row.

    Columns for recording and label are required; times, annotator, group and split are optional. A row
    without label and times states that no class is audible in the recording.
    """
    imported, audio = ImportedLabels(), RecordingIndex(options.audio or path.parent)
    table = read_label_table(path, options.separator)
    columns = find_columns(table, options, needed=("path", "label"))
    if not table.rows and not table.malformed:
        raise UserError(f"{path}: has no rows")
    for number, row in table.rows:
        times = columns.times(row)
        split = columns.value(row, "split")
        problem = ""
        if split and split not in SPLITS:
            problem, split = f"split is {split!r}, should be one of {', '.join(SPLITS)}", ""
        imported.add(
            f"{path}: line {number}",
            audio.find(columns.value(row, "path")),
            columns.value(row, "label") or (None if times == WHOLE_RECORDING else ""),
            times,
            problem=problem,
            annotator=columns.value(row, "annotator"),
            group=columns.value(row, "group"),
            split=split,
        )
    position = table.header.index(columns.names["path"])
    for number, cells in table.malformed:
        problem = table.malformed_reason(cells)
        # In a malformed row, the cells of label and annotator are unknown.
        name = cells[position] if position < len(cells) else ""
        imported.add(f"{path}: line {number}", audio.find(name), "", problem=problem)
    return imported


def _read_rows(
    path: Path, required: tuple[str, ...], options: ImportOptions
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and rows of the table of a published data set."""
    table = read_label_table(path, options.separator)
    if missing := [name for name in required if name not in table.header]:
        raise UserError(f"{path}: has no column {missing[0]!r}; it has {', '.join(table.header)}")
    if table.malformed:
        number, cells = table.malformed[0]
        raise UserError(f"{path}: line {number}: {table.malformed_reason(cells)}")
    yield from table.rows


def _split(fold: str, options: ImportOptions) -> str:
    """Return the split of a fold; "" if no validation folds are set."""
    if not options.validate_folds:
        return ""
    return "validate" if fold in options.validate_folds else "train"


def _find_recording(folder: Path, name: str) -> Path | MissingRecording:
    """Return the recording with a relative name."""
    reason = f"there is no recording {folder / name}; --audio FOLDER sets another folder"
    return find_file(folder, name) or MissingRecording(reason, name=name, folder=str(folder))


def read_esc50(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read ``meta/esc50.csv`` of ESC-50, with recordings in ``audio/``; clips of one source stay together."""
    imported = ImportedLabels()
    folder = options.audio or path.parent.parent / "audio"
    for number, row in _read_rows(path, ("filename", "fold", "category", "src_file"), options):
        split, recording = _split(row["fold"], options), _find_recording(folder, row["filename"])
        context = {"group": row["src_file"], "split": split}
        imported.add(f"{path}: line {number}", recording, row["category"], **context)
    return imported


def read_urbansound8k(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read ``metadata/UrbanSound8K.csv``, slices in ``audio/fold1/``…; slices of a source stay together."""
    imported = ImportedLabels()
    folder = options.audio or path.parent.parent / "audio"
    for number, row in _read_rows(path, ("slice_file_name", "fsID", "fold", "class"), options):
        # The columns start and end are positions in the source, not in the slice.
        recording = _find_recording(folder / f"fold{row['fold']}", row["slice_file_name"])
        context = {"group": row["fsID"], "split": _split(row["fold"], options)}
        imported.add(f"{path}: line {number}", recording, row["class"], **context)
    return imported


FORMAT = LabelFormat("a table of recordings and labels (CSV, any separator)", is_table, read)
ESC50 = LabelFormat("ESC-50's esc50.csv", lambda path: path.name == "esc50.csv", read_esc50)
URBANSOUND8K = LabelFormat(
    "UrbanSound8K's UrbanSound8K.csv", lambda path: path.name == "UrbanSound8K.csv", read_urbansound8k
)
