"""Parsing recording times from the file names that recorders write."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

# 20240131_235959, 2024-01-31 23.59.59 or 31-01-2024_23-59-59, optionally with Z, UTC, +0100, -05:30 or +01.
CLOCK = re.compile(
    r"(?<!\d)(?:(?P<year>(?:19|20)\d\d)(?P<a>[-_.]?)(?P<month>\d\d)(?P=a)(?P<day>\d\d)"
    r"|(?P<first>\d\d)(?P<b>[-_.])(?P<second>\d\d)(?P=b)(?P<last>(?:19|20)\d\d))"
    r"[T_ $.-]{0,3}(?P<hours>\d\d)[-_.: h]?(?P<minutes>\d\d)[-_.: m]?(?P<seconds>\d\d)(?!\d)"
    r"(?: ?(?P<utc>Z|UTC|GMT)(?![A-Za-z])|[ _]?(?P<offset>[+-]\d\d:?\d\d|\+\d\d)(?!\d))?"
)
# AudioMoth's first firmware names files by Unix seconds. It was not sold before 2016, hence the range.
HEXADECIMAL = re.compile(r"[0-9A-F]{8}")
EARLIEST, LATEST = 0x56000000, 0x80000000
MAX_OFFSET_HOURS = 14


def read_times(names: Sequence[str]) -> tuple[list[datetime | None], list[bool]]:
    """Read the times in the file names of one archive, in UTC, and whether each name has an offset from UTC.

    Forms that are ambiguous in a single name are resolved over all names. Dates such as 01-02-2024 have the
    day first unless a name proves the month first. A minus and four digits are an offset from UTC unless a
    name proves that they are a counter. Eight decimal digits are Unix seconds only beside hexadecimal names.

    Examples
    --------
    >>> (time,), _ = read_times(["20240131T085526+0100.wav"])
    >>> str(time)
    '2024-01-31 07:55:26'
    """
    matches = [list(CLOCK.finditer(name)) for name in names]
    clocks = [clock for name_clocks in matches for clock in name_clocks]
    first_is_month = any(clock["second"] and int(clock["second"]) > 12 for clock in clocks)
    # An offset that no time zone has, such as -0007, proves that these digits are a counter.
    counters = any(clock["offset"] and _parse_offset(clock["offset"]) is None for clock in clocks)
    unix_times = [_unix_seconds(name) for name in names]
    hexadecimal = any(unix and not name[:8].isdigit() for name, unix in zip(names, unix_times, strict=True))

    times: list[datetime | None] = []
    with_offset = []
    for name_clocks, unix in zip(matches, unix_times, strict=True):
        time, has_offset = None, False
        if unix and hexadecimal:
            time, has_offset = datetime.fromtimestamp(unix, UTC).replace(tzinfo=None), True
        for clock in name_clocks:
            if time is None and (time := _parse_local(clock, first_is_month=first_is_month)) is not None:
                offset = None if counters or not clock["offset"] else _parse_offset(clock["offset"])
                has_offset = bool(clock["utc"]) or offset is not None
                time -= offset or timedelta(0)
        times.append(time)
        with_offset.append(has_offset)
    return times, with_offset


def _parse_local(clock: re.Match, *, first_is_month: bool) -> datetime | None:
    """Return the date and time without regard to an offset; None if they do not exist."""
    if clock["year"]:
        date = (clock["year"], clock["month"], clock["day"])
    elif first_is_month:
        date = (clock["last"], clock["first"], clock["second"])
    else:
        date = (clock["last"], clock["second"], clock["first"])
    try:
        return datetime(*map(int, date), *(int(clock[part]) for part in ("hours", "minutes", "seconds")))
    except ValueError:
        return None


def _parse_offset(text: str) -> timedelta | None:
    """Return an offset from UTC; None if no time zone has it, such as -0007."""
    hours, minutes = int(text[1:3]), int(text[3:].removeprefix(":") or 0)
    if hours > MAX_OFFSET_HOURS or minutes not in (0, 15, 30, 45) or (minutes and not hours):
        return None
    return (-1 if text[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes)


def _unix_seconds(name: str) -> int | None:
    """Return the Unix time of a name of eight hexadecimal digits, None outside the plausible range."""
    stem = PurePosixPath(name).stem
    if not HEXADECIMAL.fullmatch(stem):
        return None
    return int(stem, 16) if EARLIEST <= int(stem, 16) < LATEST else None
