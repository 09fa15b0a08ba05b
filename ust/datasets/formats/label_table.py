"""Reading tables of labels as text, with the line numbers that an editor shows."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from ust.util.errors import UserError
from ust.util.names import nfc

SEPARATORS = (",", ";", "\t", "|")
EXCEL_SEPARATOR = re.compile(r'"?sep=(.)"?\s*')  # Excel's own first line


@dataclass(frozen=True)
class LabelTable:
    """A table of text.

    Attributes
    ----------
    path : Path
    header : list of str
        Names of the columns, in Unicode's form C.
    rows : list of (int, dict of str to str)
        Line numbers and cells by column.
    malformed : list of (int, list of str)
        Lines with more or fewer cells than the header.
    """

    path: Path
    header: list[str]
    rows: list[tuple[int, dict[str, str]]]
    malformed: list[tuple[int, list[str]]]


def read_label_table(path: Path, separator: str | None = None) -> LabelTable:
    """Read a table in UTF-8; where columns are separated by tabs, quotation marks are text.

    Parameters
    ----------
    path : Path
    separator : str, optional
        By default the one of `SEPARATORS` that the header has most of.

    Raises
    ------
    UserError
        If it is no table.
    """
    lines = list(io.StringIO(_read_text(path)))  # at \n alone; str.splitlines knows ten more ends
    if not lines:
        raise UserError(f"{path}: the file is empty")
    first = 1
    if (found := EXCEL_SEPARATOR.fullmatch(lines[0])) and len(lines) > 1:
        separator, first, lines = separator or found[1], 2, lines[1:]
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
                while not cells[-1]:  # a separator at the end of the line
                    cells.pop()
                header = _unique([nfc(cell) for cell in cells])
            elif len(cells) < len(header) or any(cells[len(header) :]):
                malformed.append((line, cells))
            else:
                rows.append((line, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise UserError(
            f"{path}: line {number}: not a readable table: {error} (a quotation mark that is not closed?)"
        ) from None
    if not header:
        raise UserError(f"{path}: the file is empty")
    return LabelTable(path, header, rows, malformed)


def first_line(path: Path) -> str:
    """Return a file's first line, whatever its encoding."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(2**16)


def _read_text(path: Path) -> str:
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


def _unique(names: list[str]) -> list[str]:
    """Return names of columns, empty and repeated ones with their number behind."""
    return [
        name if name and name not in names[:index] else f"{name} (column {index + 1})".strip()
        for index, name in enumerate(names)
    ]
