"""Tables of labels: CSV with any separator, and those of ESC-50 and UrbanSound8K."""

from collections.abc import Iterator
from pathlib import Path

from ust.annotations.annotations import SPLITS
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
from ust.util.names import find_file


def is_table(path: Path) -> bool:
    """Return whether a file's name is a table's."""
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv")


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read a table with a label in each row: recording and label, perhaps times, annotator, group and split.

    A row without a label and without times says that nothing was heard in the recording.
    """
    found, audio = ImportedLabels(), RecordingIndex(options.audio or path.parent)
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
        found.add(
            f"{path}: line {number}",
            audio.find(columns.value(row, "path")),
            columns.value(row, "label") or (None if times == WHOLE_RECORDING else ""),
            times,
            problem=problem,
            annotator=columns.value(row, "annotator"),
            group=columns.value(row, "group"),
            split=split,
        )
    place = table.header.index(columns.names["path"])
    for number, cells in table.malformed:
        problem = f"has {len(cells)} columns, should have {len(table.header)} as the header"
        # Which cell is the label is not known, nor which the annotator.
        name = cells[place] if place < len(cells) else ""
        found.add(f"{path}: line {number}", audio.find(name), "", problem=problem)
    return found


def _data_set(
    path: Path, wanted: tuple[str, ...], options: ImportOptions
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a data set's own table."""
    table = read_label_table(path, options.separator)
    if missing := [name for name in wanted if name not in table.header]:
        raise UserError(f"{path}: has no column {missing[0]!r}; it has {', '.join(table.header)}")
    if table.malformed:
        number, cells = table.malformed[0]
        raise UserError(
            f"{path}: line {number}: has {len(cells)} columns, should have {len(table.header)} as the header"
        )
    yield from table.rows


def _split(fold: str, options: ImportOptions) -> str:
    if not options.validate_folds:
        return ""
    return "validate" if fold in options.validate_folds else "train"


def _file(folder: Path, name: str) -> Path | MissingRecording:
    return find_file(folder, name) or MissingRecording(f"there is no recording {folder / name}")


def read_esc50(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read ``meta/esc50.csv`` of ESC-50, with recordings in ``audio/``; parts of one source stay together."""
    found = ImportedLabels()
    folder = options.audio or path.parent.parent / "audio"
    for number, row in _data_set(path, ("filename", "fold", "category", "src_file"), options):
        split, recording = _split(row["fold"], options), _file(folder, row["filename"])
        context = {"group": row["src_file"], "split": split}
        found.add(f"{path}: line {number}", recording, row["category"], **context)
    return found


def read_urbansound8k(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read ``metadata/UrbanSound8K.csv``, slices in ``audio/fold1/`` …; those of one source stay together."""
    found = ImportedLabels()
    folder = options.audio or path.parent.parent / "audio"
    for number, row in _data_set(path, ("slice_file_name", "fsID", "fold", "class"), options):
        # Start and end are those in the source, not in the slice.
        recording = _file(folder / f"fold{row['fold']}", row["slice_file_name"])
        context = {"group": row["fsID"], "split": _split(row["fold"], options)}
        found.add(f"{path}: line {number}", recording, row["class"], **context)
    return found


FORMAT = LabelFormat("a table of recordings and labels (CSV, any separator)", is_table, read)
ESC50 = LabelFormat("ESC-50's esc50.csv", lambda path: path.name == "esc50.csv", read_esc50)
URBANSOUND8K = LabelFormat(
    "UrbanSound8K's UrbanSound8K.csv", lambda path: path.name == "UrbanSound8K.csv", read_urbansound8k
)
