"""Tables of labels: CSV with any separator, and those of ESC-50 and UrbanSound8K."""

from collections.abc import Iterator
from pathlib import Path

from ust.annotations.reading import SPLITS
from ust.collection.formats.form import Form, Options, Read, Recordings, Said, seconds
from ust.files.csvs import read_csv
from ust.files.errors import UserError

SEPARATORS = (",", ";", "\t", "|")
# What a column that holds something is called, in order of preference; --column says it where it is not.
NAMES = {
    "path": ("path", "file", "filename", "file_name", "audio", "audio_filename", "recording"),
    "label": ("label", "labels", "class", "category", "tag", "annotation", "species"),
    "start": ("start", "onset", "begin", "start_time", "start_s"),
    "end": ("end", "offset", "stop", "end_time", "end_s"),
    "annotator": ("annotator", "annotator_id", "user"),
    "group": ("group", "sensor", "sensor_id", "site"),
    "split": ("split",),
}


def rows(path: Path, separator: str | None) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a table as text.

    Raises
    ------
    UserError
        If it is no table.
    """
    if separator is None:
        try:
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                header = file.readline(2**20)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        separator = max(SEPARATORS, key=header.count)
    table = read_csv(path, sep=separator, dtype=str, keep_default_na=False, skipinitialspace=True)
    table.columns = table.columns.str.strip()
    for number, row in enumerate(table.to_dict("records"), start=2):
        yield number, {name: value.strip() for name, value in row.items()}


def is_table(path: Path) -> bool:
    """Whether its name is a table's."""
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv")


def read(path: Path, options: Options) -> Read:
    """A row for each label: the recording's path and a label; as far as known start, end, annotator, group.

    A row without a label says that nothing was heard.
    """
    found, audio, columns = Read(), Recordings(options.audio or path.parent), {}
    for number, row in rows(path, options.separator):
        columns = columns or _columns(path, row, options)
        value = {what: row[name] for what, name in columns.items()}
        start, end = (value.get(what) or None for what in ("start", "end"))
        times = [seconds(text) if text else None for text in (start, end)]
        recording = audio.find(value["path"])
        if isinstance(recording, str):
            found.problems.append(f"{path}: line {number}: {recording}")
        elif (start and times[0] is None) or (end and times[1] is None) or _backwards(times):
            found.problems.append(f"{path}: line {number}: from {start} to {end} is no stretch of time")
        elif value.get("split") and value["split"] not in SPLITS:
            found.problems.append(f"{path}: line {number}: split is {value['split']!r}, should be train …")
        else:
            who = {what: value.get(what, "") for what in ("annotator", "group", "split")}
            found.said.append(Said(recording, value["label"] or None, times[0] or 0.0, times[1], **who))
    if not columns:
        raise UserError(f"{path}: has no rows")
    return found


def _columns(path: Path, row: dict[str, str], options: Options) -> dict[str, str]:
    columns = {}
    lower = {name.lower(): name for name in row}
    for what, names in NAMES.items():
        if what in options.columns:
            if options.columns[what] not in row:
                raise UserError(f"{path}: has no column {options.columns[what]!r}; it has {', '.join(row)}")
            columns[what] = options.columns[what]
        elif found := [lower[name] for name in names if name in lower]:
            columns[what] = found[0]
    for what in ("path", "label"):
        if what not in columns:
            raise UserError(
                f"{path}: which column holds the {what}? It has {', '.join(row)}; say --column {what}=NAME"
            )
    return columns


def _backwards(times: list[float | None]) -> bool:
    start, end = times
    return end is not None and end < (start or 0.0)


def _data_set(path: Path, wanted: tuple[str, ...], options: Options) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a data set's own table."""
    for number, row in rows(path, options.separator):
        if missing := [name for name in wanted if name not in row]:
            raise UserError(f"{path}: has no column {missing[0]!r}; it has {', '.join(row)}")
        yield number, row


def _split(fold: str, options: Options) -> str:
    if not options.validate_folds:
        return ""
    return "validate" if fold in options.validate_folds else "train"


def read_esc50(path: Path, options: Options) -> Read:
    """``meta/esc50.csv`` of ESC-50, with recordings in ``audio/``; parts of one source stay together."""
    found = Read()
    folder = options.audio or path.parent.parent / "audio"
    for number, row in _data_set(path, ("filename", "fold", "category", "src_file"), options):
        recording = folder / row["filename"]
        if recording.is_file():
            split = _split(row["fold"], options)
            found.said.append(Said(recording, row["category"], group=row["src_file"], split=split))
        else:
            found.problems.append(f"{path}: line {number}: there is no recording {recording}")
    return found


def read_urbansound8k(path: Path, options: Options) -> Read:
    """``metadata/UrbanSound8K.csv``, slices in ``audio/fold1/`` …; those of one source stay together."""
    found = Read()
    folder = options.audio or path.parent.parent / "audio"
    for number, row in _data_set(path, ("slice_file_name", "fsID", "fold", "class"), options):
        recording = folder / f"fold{row['fold']}" / row["slice_file_name"]
        if recording.is_file():  # its start and end are those in the source, not in the slice
            split = _split(row["fold"], options)
            found.said.append(Said(recording, row["class"], group=row["fsID"], split=split))
        else:
            found.problems.append(f"{path}: line {number}: there is no recording {recording}")
    return found


FORM = Form("a table of recordings and labels (CSV, any separator)", is_table, read)
ESC50 = Form("ESC-50's esc50.csv", lambda path: path.name == "esc50.csv", read_esc50)
URBANSOUND8K = Form(
    "UrbanSound8K's UrbanSound8K.csv", lambda path: path.name == "UrbanSound8K.csv", read_urbansound8k
)
