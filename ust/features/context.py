"""Time and place of a recording as a vector, from the columns of annotations.csv or from the caller.

SONYC-UST v2 gives the week of the year, the day of the week, the hour, the borough, and the latitude and
longitude of the sensor's block. A vector is 0 in the parts that are not known.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from ust.features.store import Features
from ust.util.digests import digest
from ust.util.errors import UserError, bullet_list, shorten
from ust.util.tables import LineNumbers, read_csv

CONTEXT = "context"  # name of the input of networks
Input = TypeVar("Input")
BOROUGHS = {1: "Manhattan", 2: "Bronx", 3: "Brooklyn", 4: "Queens", 5: "Staten Island"}
# Column, first value and period of each cyclic part.
CYCLES = (("hour", 0, 24.0), ("day", 0, 7.0), ("week", 1, 365.25 / 7))
TIME_COLUMNS = tuple(column for column, _, _ in CYCLES)
COORDINATES = ("latitude", "longitude")
COLUMNS = ("week", "day", "hour", "borough", *COORDINATES)
VALUES = (
    *(f"{column}_{function}" for column in TIME_COLUMNS for function in ("sin", "cos")),
    "has_time",
    *(f"borough_{code}" for code in BOROUGHS),
    *COORDINATES,
    "has_coordinates",
)
SIZE = len(VALUES)
HAS_TIME, HAS_COORDINATES = VALUES.index("has_time"), VALUES.index("has_coordinates")
FIRST_BOROUGH, FIRST_COORDINATE = VALUES.index("borough_1"), VALUES.index("latitude")
MISSING = np.zeros(SIZE, np.float32)
# Bounds of the columns, and whether values are whole numbers.
RANGES = {
    "week": (1, 53, True),
    "day": (0, 6, True),
    "hour": (0, 23, True),
    "borough": (1, 5, True),
    "latitude": (-90, 90, False),
    "longitude": (-180, 180, False),
}
MEANINGS = {
    "day": " (0 is Monday)",
    "borough": f" ({', '.join(f'{code} {name}' for code, name in BOROUGHS.items())})",
}


class Place(NamedTuple):
    """Position of a sensor.

    Attributes
    ----------
    latitude, longitude : float
        In degrees.
    borough : int, optional
        Code of the New York borough, a key of `BOROUGHS`.
    """

    latitude: float
    longitude: float
    borough: int | None = None


def context_vector(time: datetime | None = None, place: Place | None = None) -> np.ndarray:
    """Return the vector of a time and a place.

    Parameters
    ----------
    time : datetime, optional
        Local time of the recording; a time zone is ignored.
    place : Place, optional

    Returns
    -------
    numpy.ndarray [shape=(15,), float32]
        In the order of `VALUES`: sine and cosine of hour, weekday and week, whether the time is known, the
        boroughs one-hot, latitude and longitude in degrees, whether these are known. Parts that are not known
        are 0.

    Raises
    ------
    UserError
        If the place is not on Earth or the borough has no such code.

    Examples
    --------
    >>> vector = context_vector(datetime(2026, 7, 4, 6), Place(40.73, -73.99, 1))
    >>> vector[:2].round(3).tolist()  # a quarter of the day
    [1.0, 0.0]
    >>> bool(context_vector().any())
    False
    """
    known: dict[str, float | None] = dict.fromkeys(COLUMNS)
    if time is not None:
        known |= {"week": time.isocalendar().week, "day": time.weekday(), "hour": time.hour}
    if place is not None:
        known |= dict(zip((*COORDINATES, "borough"), place, strict=True))
    wrong = [
        f"{column} is {value}, should be {_expected(column)}"
        for column, value in known.items()
        if value is not None and not _is_valid(column, pd.Series([float(value)]))[0]
    ]
    if wrong:
        raise UserError("; ".join(wrong))
    return encode_context(pd.DataFrame([known]).astype(float))[0]


def encode_context(table: pd.DataFrame) -> np.ndarray:
    """Return the vectors [shape=(rows, 15), float32] of a table with `COLUMNS`, NaN where not known."""
    parts = []
    for column, first, period in CYCLES:
        angle = 2 * np.pi * (table[column] - first) / period
        parts += [np.sin(angle), np.cos(angle)]
    parts.append(table["hour"].notna())
    parts += [table["borough"] == code for code in BOROUGHS]
    parts += [table["latitude"], table["longitude"], table["latitude"].notna()]
    return np.nan_to_num(np.stack([part.to_numpy(np.float32) for part in parts], axis=1))


def read_context(path: Path) -> dict[str, np.ndarray]:
    """Read time and place of each clip from an annotation file.

    Parameters
    ----------
    path : Path
        annotations.csv with `COLUMNS`, as in SONYC-UST v2. A file with none of them, as in v1, gives no
        values. An empty cell is a value that is not known; the cells of week, day and hour are empty
        together, and so are those of latitude and longitude.

    Returns
    -------
    dict of str to numpy.ndarray [shape=(15,), float32]
        The vector of each clip, by audio_filename; see `context_vector`.

    Raises
    ------
    UserError
        If some of the columns are missing; else lists every wrong value with its line and column, and clips
        whose rows differ.

    Examples
    --------
    >>> read_context(Path("data/raw/annotations.csv"))["00_000066.wav"].shape  # doctest: +SKIP
    (15,)
    """
    text = read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    text.columns = text.columns.str.strip()
    missing = [column for column in COLUMNS if column not in text]
    if len(missing) == len(COLUMNS):
        return {}
    if missing:
        raise UserError(
            f"{path}: column(s) {', '.join(missing)} missing, should have all of {', '.join(COLUMNS)}; add "
            "them, with empty cells where a value is not known"
        )
    text = text[["audio_filename", *COLUMNS]].apply(lambda column: column.str.strip())
    table, problems = _parse_columns(LineNumbers(path), text, COLUMNS, (TIME_COLUMNS, COORDINATES))
    values = text.groupby("audio_filename", sort=True)[list(COLUMNS)].nunique()
    for clip, counts in values[(values > 1).any(axis=1)].iterrows():
        different = [column for column in COLUMNS if counts[column] > 1]
        problems.append(f"clip {clip} has rows with different {shorten(different)}, should have one value")
    _raise_problems(path, problems)
    return dict(zip(text["audio_filename"], encode_context(table), strict=True))


def read_places(path: Path) -> dict[str, Place]:
    """Read the places of sensors from a CSV file with ``sensor, latitude, longitude`` and maybe ``borough``.

    Raises
    ------
    UserError
        If a column is missing; else lists every wrong value with its line and column.
    """
    text = read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    text.columns = text.columns.str.strip()
    needed = ("sensor", *COORDINATES)
    missing = [column for column in needed if column not in text]
    if missing:
        raise UserError(
            f"{path}: column(s) {', '.join(missing)} missing, should have {', '.join(needed)} and, "
            "optionally, borough"
        )
    if "borough" not in text:
        text["borough"] = ""
    text = text.apply(lambda column: column.str.strip())
    lines = LineNumbers(path)
    table, problems = _parse_columns(lines, text, (*COORDINATES, "borough"), (COORDINATES,))
    for row in np.flatnonzero(text["sensor"].duplicated() | (text["latitude"] == "")):
        problems.append(
            f"line {lines[row]}: sensor is {text['sensor'][row]!r}, should be on one line, with a latitude"
        )
    _raise_problems(path, problems)
    rows = zip(table["latitude"], table["longitude"], table["borough"], strict=True)
    places = [Place(a, b, None if np.isnan(borough) else int(borough)) for a, b, borough in rows]
    return dict(zip(text["sensor"], places, strict=True))


def build_context_features(contexts: Mapping[str, np.ndarray], rows: Features) -> Features:
    """Return the vectors of a feature file's rows as a further feature; `MISSING` for clips without one."""
    values = np.stack([contexts.get(clip, MISSING) for clip in rows.clip])
    content = np.array([digest(value.tobytes()) for value in values], object)
    return Features(rows.path, CONTEXT, rows.clip, rows.variant, rows.split, content, values, {}, values)


def select_audio_inputs(inputs: Mapping[str, Input]) -> dict[str, Input]:
    """Return the inputs of a network that are features of audio, which are all but `CONTEXT`."""
    return {name: value for name, value in inputs.items() if name != CONTEXT}


def parse_time(text: str) -> datetime:
    """Parse a local time in ISO 8601, such as 2026-07-04T15:00; a time zone is ignored."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"the time is {text!r}, should be local time such as 2026-07-04T15:00") from None


def parse_place(text: str) -> Place:
    """Parse ``LATITUDE,LONGITUDE[,BOROUGH]``; the borough is a code or a name of `BOROUGHS`.

    Examples
    --------
    >>> parse_place("40.73,-73.99,Brooklyn")
    Place(latitude=40.73, longitude=-73.99, borough=3)
    """
    first, *rest = (part.strip() for part in text.split(","))
    codes = {name.lower(): code for code, name in BOROUGHS.items()}
    try:
        latitude, longitude = float(first), float(rest[0])
        borough = (codes.get(rest[1].lower()) or int(rest[1])) if len(rest) > 1 else None
        if len(rest) > 2:
            raise ValueError
    except (ValueError, IndexError):
        raise UserError(
            f"the place is {text!r}, should be LATITUDE,LONGITUDE in degrees and, optionally, a borough"
            f"{MEANINGS['borough']}, such as 40.73,-73.99 or 40.73,-73.99,Manhattan"
        ) from None
    place = Place(latitude, longitude, borough)
    context_vector(place=place)  # checks the ranges
    return place


def _parse_columns(
    lines: LineNumbers,
    text: pd.DataFrame,
    columns: tuple[str, ...],
    together: tuple[tuple[str, ...], ...],
) -> tuple[pd.DataFrame, list[str]]:
    """Return the numbers of some columns, NaN for an empty cell, and the problems by line.

    The cells of the columns in each tuple of `together` are empty together.
    """
    table = text[list(columns)].apply(pd.to_numeric, errors="coerce")
    problems = []
    for column in columns:
        wrong = (text[column] != "") & ~_is_valid(column, table[column])
        problems += [
            f"line {lines[row]}: {column} is {text[column][row]!r}, should be {_expected(column)}"
            for row in np.flatnonzero(wrong)
        ]
    for group in together:
        empty = text[list(group)] == ""
        for row in np.flatnonzero(empty.any(axis=1) & ~empty.all(axis=1)):
            gaps = " and ".join(column for column in group if empty[column][row])
            problems.append(
                f"line {lines[row]}: {gaps} empty, should have a value, as {', '.join(group)} belong "
                "together; or leave all of them empty"
            )
    return table, problems


def _raise_problems(path: Path, problems: list[str]) -> None:
    """Raise an error that lists the problems of a file, if there are any."""
    if problems:
        raise UserError(
            f"{path}: {len(problems)} problem(s) with time and place, please correct the file:\n"
            f"{bullet_list(problems)}"
        )


def _is_valid(column: str, values: pd.Series) -> pd.Series:
    """Return, by row, whether a number is in the range of a column."""
    low, high, whole = RANGES[column]
    return values.between(low, high) & ((values % 1 == 0) | (not whole))


def _expected(column: str) -> str:
    """Return the range of a column in words."""
    low, high, whole = RANGES[column]
    return f"a {'whole number' if whole else 'number'} from {low} to {high}{MEANINGS.get(column, '')}"
