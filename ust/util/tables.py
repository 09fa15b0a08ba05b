"""Read CSV files, with one-line error messages, and write them atomically."""

import csv
import io
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ust.util.errors import UserError, single_line
from ust.util.files import atomic_write

MAX_LINE_BYTES = 2**20
OTHER_SEPARATORS = {b";": "semicolons", b"\t": "tabs", b"|": "bars"}


def read_csv(path: Path, *, hint: str = "", **options: Any) -> pd.DataFrame:
    """Read a CSV file in UTF-8, with or without a byte-order mark."""
    try:
        content, number = io.BytesIO(), 0
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise UserError(f"{path}: line {number} is longer than a megabyte: not a table of clips")
                if number == 1 and "sep" not in options:
                    _check_separator(path, line)
                content.write(line)
        if number == 0:
            raise UserError(f"{path}: the file is empty")
        content.seek(0)
        table = pd.read_csv(content, encoding="utf-8-sig", **options)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{hint and '; ' + hint}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, should be a CSV file{hint and '; ' + hint}") from None
    except (ValueError, OverflowError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not a readable CSV file: {single_line(error, limit=500)}") from None
    # If rows have more fields than the header, pandas uses the first fields as the index.
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}: not a readable CSV file: the rows have more fields than the header")
    return table


class LineNumbers:
    """The line of a CSV file, from 1, at which each row of `read_csv` begins; the file is read when needed.

    They differ from the positions of rows if the file has empty lines, or quoted cells with line breaks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, row: int) -> int:
        return self._lines[row] if row < len(self._lines) else row + 2

    @cached_property
    def _lines(self) -> list[int]:
        lines, line = [], 1
        with self._path.open(encoding="utf-8-sig", newline="") as file, suppress(csv.Error):
            reader = csv.reader(file, skipinitialspace=True)
            for cells in reader:
                if len(cells) > 1 or any(map(str.strip, cells)):  # pandas skips other lines
                    lines.append(line)
                line = reader.line_num + 1
        return lines[1:]  # without the header


def write_csv(path: Path, table: pd.DataFrame, *, float_format: str | None = None) -> None:
    """Write a table without its index to a CSV file."""
    with atomic_write(path) as partial:
        table.to_csv(partial, index=False, float_format=float_format, lineterminator="\n")


def _check_separator(path: Path, header: bytes) -> None:
    """Raise an error if the columns of the header are separated by another character than a comma."""
    for separator, name in OTHER_SEPARATORS.items():
        if separator in header and b"," not in header and b"\0" not in header:
            raise UserError(
                f"{path}: the columns are separated by {name}, should be by commas; save it with commas"
            )
