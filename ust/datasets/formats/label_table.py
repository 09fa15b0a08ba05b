"""Read tables of labels as text, and find the columns of labels, times and recordings by their names."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ust.audio.suffixes import is_audio
from ust.datasets.formats.base import WHOLE_RECORDING, ImportOptions, parse_interval, parse_seconds
from ust.util.errors import UserError, shorten
from ust.util.names import nfc

SEPARATORS = (",", ";", "\t", "|")
EXCEL_SEPARATOR = re.compile(r'"?sep=(.)"?\s*')  # first line written by Excel


@dataclass(frozen=True)
class LabelTable:
    """A table of strings."""

    path: Path
    header: list[str]  # names of the columns, in NFC
    rows: list[tuple[int, dict[str, str]]]  # line number, as in a text editor, and cells by column
    # Line number and cells of lines with more or fewer cells than the header
    malformed: list[tuple[int, list[str]]]

    def malformed_reason(self, cells: list[str]) -> str:
        """Return what is wrong with the cells of a malformed line."""
        return f"has {len(cells)} columns, should have {len(self.header)} as the header"


def read_label_table(path: Path, separator: str | None = None) -> LabelTable:
    """Read a table in UTF-8; quotation marks are ordinary text if columns are separated by tabs."""
    lines = list(io.StringIO(_read_text(path)))  # splits at \n only, unlike str.splitlines
    if not lines:
        raise UserError(f"{path}: the file is empty")
    first = 1
    if (match := EXCEL_SEPARATOR.fullmatch(lines[0])) and len(lines) > 1:
        separator, first, lines = separator or match[1], 2, lines[1:]
    separator = "\t" if separator == r"\t" else separator or max(SEPARATORS, key=lines[0].count)
    if len(separator) != 1:
        raise UserError(f"--separator is {separator!r}, should be one character")
    quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, skipinitialspace=True, strict=True)
    header: list[str] = []
    rows, malformed = [], []
    number = first
    try:
        for cells in reader:
            line, number = number, first + reader.line_num
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not header:
                while not cells[-1]:  # empty cells after a trailing separator
                    cells.pop()
                header = _make_unique([nfc(cell) for cell in cells])
            elif len(cells) < len(header) or any(cells[len(header) :]):
                malformed.append((line, cells))
            else:
                rows.append((line, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise UserError(
            f"{path}: line {number}: not a readable table: {error} (an unclosed quotation mark?)"
        ) from None
    if not header:
        raise UserError(f"{path}: the file is empty")
    return LabelTable(path, header, rows, malformed)


def first_line(path: Path) -> str:
    """Return the first line of a file in any encoding."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(2**16)


def _read_text(path: Path) -> str:
    """Read a text file in UTF-8, with the line number of an encoding error."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    try:
        return io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=None).read()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line}: is not text in UTF-8; save the table with that encoding"
        ) from None


def _make_unique(names: list[str]) -> list[str]:
    """Return column names; empty and repeated ones get their column number."""
    return [
        name if name and name not in names[:index] else f"{name} (column {index + 1})".strip()
        for index, name in enumerate(names)
    ]


SECONDS = ("", "s", "sec", "secs", "second", "seconds", "in_s", "in_sec", "in_seconds")
MILLISECONDS = ("ms", "msec", "milli", "millis", "millisecond", "milliseconds", "in_ms", "in_milliseconds")
# Names of time columns without their unit, in order of preference.
TIMES = {
    "start": (
        "start", "onset", "begin", "start_time", "begin_time", "onset_time", "starttime", "begintime",
        "time_start", "time_begin", "t_start", "t_begin", "tstart", "t0", "tmin", "t_min", "xmin",
        "event_start", "event_onset", "segment_start",
    ),
    "end": (
        "end", "offset", "stop", "end_time", "offset_time", "stop_time", "endtime", "stoptime", "time_end",
        "time_stop", "t_end", "t_stop", "tend", "tstop", "t1", "tmax", "t_max", "xmax", "event_end",
        "event_offset", "event_stop", "segment_end", "finish",
    ),
    "duration": ("duration", "dur", "length", "event_duration", "segment_duration", "event_length"),
}  # fmt: skip
# Column names by role, as `normalise_name` returns them, in order of preference.
ROLES: dict[str, tuple[str, ...]] = {
    "path": (
        "path", "file", "filename", "file_name", "filepath", "file_path", "audio", "audio_filename",
        "audio_file", "audio_path", "recording", "begin_path", "begin_file",
    ),
    "label": (
        "label", "labels", "annotation", "tags", "class", "category", "tag", "species", "common_name",
        "event_label",
    ),
    "annotator": ("annotator", "annotator_id", "user"),
    "group": ("group", "sensor", "sensor_id", "site"),
    "split": ("split",),
    **{
        f"{role}{suffix}": tuple(f"{name}_{unit}".rstrip("_") for unit, name in product(units, names))
        for role, names in TIMES.items()
        for suffix, units in (("", SECONDS), ("_ms", MILLISECONDS))
    },
}  # fmt: skip
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?|\d+(:\d\d){1,2}([.,]\d+)?")  # or 1:02:03.5
PART_OF_TIME = re.compile(r"time|start|begin|onset|stop|offset|durat|milli")
WORD_OF_TIME = re.compile(r"end.*|t\d?|dur|secs?|seconds?|ms|msecs?|from|to")


@dataclass(frozen=True)
class Columns:
    """The columns of a table by role."""

    names: Mapping[str, str]  # column name by role, see `ROLES`; times without the suffix "_ms"
    milliseconds: frozenset[str]  # the times that are in milliseconds, not in seconds

    def value(self, row: Mapping[str, str], role: str) -> str:
        """Return the cell of a role; "" if no column has the role."""
        return row[self.names[role]] if role in self.names else ""

    def times(self, row: Mapping[str, str]) -> tuple[float, float | None] | str:
        """Return start and end in seconds; `WHOLE_RECORDING` if all time cells are empty; else a problem."""
        start, end, duration = (self.value(row, role) for role in TIMES)
        scales = [0.001 if role in self.milliseconds else 1.0 for role in TIMES]
        if not (start or end or duration):
            return WHOLE_RECORDING
        if not start:
            if "start" in self.names:
                return "has an end or a duration, but no start"
            start = "0"
        if end:
            return parse_interval(start, end, (scales[0], scales[1]))
        begin, length = parse_seconds(start, scales[0]), parse_seconds(duration, scales[2])
        if begin is None or (duration and length is None):
            return f"from {start!r}{duration and f' for {duration!r}'} is not a time interval in seconds"
        if not duration and {"end", "duration"} & set(self.names):
            return f"starts at {start!r}, but has no end"
        return begin, begin + length if duration else None


def normalise_name(name: str) -> str:
    """Return a column name in lower case, with words joined by underscores.

    Examples
    --------
    >>> normalise_name("Begin Time (s)"), normalise_name("startTime")
    ('begin_time_s', 'start_time')
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", nfc(name))
    return re.sub(r"[\W_]+", "_", words.lower()).strip("_")


def find_columns(table: LabelTable, options: ImportOptions, *, needed: tuple[str, ...]) -> Columns:
    """Find the columns of a table by role; ``--column`` takes precedence over common names."""
    path, header = table.path, table.header
    by_name = {}
    for name in header:
        by_name.setdefault(normalise_name(name), name)
    names = {role: name for role, name in _explicit_columns(table, options).items() if name}
    for role, known in ROLES.items():
        in_seconds = role.removesuffix("_ms")
        if {in_seconds, f"{in_seconds}_ms"} & {*options.columns, *names}:
            continue
        matching = [by_name[name] for name in known if name in by_name]
        if matching := [name for name in matching if name not in options.columns.values()]:
            names[role] = matching[0]
    if any(map(is_audio, header)) or (not names and any(NUMBER.fullmatch(name) for name in header)):
        raise UserError(
            f"{path}: has no header line: its first line is {' | '.join(header)[:80]!r}, should name the "
            "columns, such as file, label, start, end; insert one"
        )
    for role in needed:
        if role not in names:
            raise UserError(
                f"{path}: which column holds the {role}? It has {', '.join(header)}; say --column {role}=NAME"
            )
    milliseconds = {role.removesuffix("_ms"): name for role, name in names.items() if role.endswith("_ms")}
    others = {role: name for role, name in names.items() if not role.endswith("_ms")}
    columns = Columns(milliseconds | others, frozenset(milliseconds.keys() - others.keys()))
    _check_times(table, columns, options)
    return columns


def _explicit_columns(table: LabelTable, options: ImportOptions) -> dict[str, str]:
    """Return the columns set by ``--column``, by role."""
    names = {}
    for role, name in options.columns.items():
        if role not in ROLES:
            raise UserError(f"--column: there is no {role!r}, should be one of {', '.join(ROLES)}")
        if name and nfc(name) not in table.header:
            raise UserError(f"{table.path}: has no column {name!r}; it has {', '.join(table.header)}")
        names[role] = nfc(name)
    return names


def _check_times(table: LabelTable, columns: Columns, options: ImportOptions) -> None:
    """Raise an error if a column may be a time but is not recognised as one."""
    start = columns.names.get("start")
    end = [role for role in ("end", "duration") if role in columns.names]
    none = {role.removesuffix("_ms") for role, name in options.columns.items() if not name}
    if end and not start and "start" not in none:
        ends = ", ".join(repr(columns.names[role]) for role in end)
        raise UserError(
            f"{table.path}: has {ends}, but no start column; it has {', '.join(table.header)}. Say "
            f"--column start=NAME; or --column {end[0]}= if it is not a time of the labels"
        )
    if (start and end) or none & {"start", "end"}:
        return
    assigned = set(columns.names.values())
    doubtful = [name for name in table.header if name not in assigned and _may_be_time(table, name)]
    if start:
        which = f" (perhaps {shorten([repr(name) for name in doubtful])})" if doubtful else ""
        raise UserError(
            f"{table.path}: has the start {start!r}, but no end column{which}; it has "
            f"{', '.join(table.header)}. Say --column end=NAME or duration=NAME; or --column end= if each "
            "label lasts until the recording's end"
        )
    if doubtful:
        raise UserError(
            f"{table.path}: may {shorten([repr(name) for name in doubtful])} be times of the labels? Say "
            "which by --column start=NAME and --column end=NAME (or duration=NAME; start_ms, end_ms and "
            "duration_ms for milliseconds); or --column start= if none is, and labels are of whole recordings"
        )


def _may_be_time(table: LabelTable, name: str) -> bool:
    """Return whether a column has a name that suggests a time, and only numbers."""
    simple = normalise_name(name)
    if not PART_OF_TIME.search(simple) and not any(map(WORD_OF_TIME.fullmatch, simple.split("_"))):
        return False
    cells = [row[name] for _, row in table.rows if row[name]]
    return bool(cells) and all(map(NUMBER.fullmatch, cells))
