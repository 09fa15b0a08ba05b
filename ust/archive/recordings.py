"""Listing the recordings to tag: those below an address, or those of a manifest."""

import logging
from pathlib import PurePosixPath

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from ust.archive.filesystems import explain_errors, is_local, resolve_address
from ust.archive.times import read_times
from ust.audio.suffixes import is_audio, is_hidden, parts_below
from ust.util.errors import UserError, plural
from ust.util.names import printable

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("start", pa.float64()),
        ("duration", pa.float64()),
        ("sensor", pa.string()),
        ("time", pa.timestamp("us")),
    ]
)
OFFSET = r"[T ].*(?:Z|[+-]\d\d(?::?\d\d)?)$"  # at the end of an ISO 8601 time
MANIFESTS = (".csv", ".parquet")
log = logging.getLogger("ust")


def find_recordings(source: str) -> pa.Table:
    """Return the recordings to tag, sorted by path and start, with the columns of `SCHEMA`.

    Unknown values are null. ``time`` is in UTC. Without a manifest, it is parsed from the file name
    (20240131_235959), and ``sensor`` is the name of the parent folder.
    """
    with explain_errors(source):
        fs, path = resolve_address(source)
        if PurePosixPath(path).suffix.lower() in MANIFESTS and not (is_local(fs) and fs.isdir(path)):
            table = _read_manifest(fs, path, source)
        else:
            if fs.exists(path):  # an existing path is no pattern, even with special characters in its name
                paths = fs.find(path)
            elif any(character in path for character in "*?["):
                paths = fs.glob(path)
            else:
                raise FileNotFoundError
            paths = [
                each for each in sorted(paths) if is_audio(each) and not is_hidden(parts_below(each, path))
            ]
            table = _build_table([each if is_local(fs) else fs.unstrip_protocol(each) for each in paths])
    if unknown := table["time"].null_count:
        names = table.filter(pc.is_null(table["time"]))["path"]
        log.warning("%s: the time is not known of %d of %s, such as %s", source, unknown,
                    plural(len(table), "recording"), PurePosixPath(names[0].as_py()).name)  # fmt: skip
    return table.sort_by([("path", "ascending"), ("start", "ascending")])


def _build_table(paths: list[str]) -> pa.Table:
    """Return the table of recordings at addresses, with sensors and times from their names."""
    times, with_offset = read_times([PurePosixPath(path).name for path in paths])
    _report_offsets(sum(with_offset), sum(time is not None for time in times))
    return pa.table(
        {
            "path": pa.array(map(printable, paths), pa.string()),
            "start": pa.nulls(len(paths), pa.float64()),
            "duration": pa.nulls(len(paths), pa.float64()),
            "sensor": pa.array([printable(PurePosixPath(path).parent.name) for path in paths], pa.string()),
            "time": pa.array(times, pa.timestamp("us")),
        },
        schema=SCHEMA,
    )


def _report_offsets(with_offset: int, times: int) -> None:
    """Report that only some of the times have an offset from UTC."""
    if 0 < with_offset < times:
        log.warning(
            "%s with an offset from UTC, %s without; times without an offset are taken as UTC",
            plural(with_offset, "time"), f"{times - with_offset:,}",
        )  # fmt: skip


def _read_manifest(fs: object, path: str, source: str) -> pa.Table:
    """Read a manifest and check its columns and values."""
    with fs.open(path, "rb") as file:
        if path.lower().endswith(".csv"):
            types = {field.name: field.type for field in SCHEMA} | {"time": pa.string()}
            options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
            table = pyarrow.csv.read_csv(file, convert_options=options)
        else:
            table = pyarrow.parquet.read_table(file)
    wrong = sorted(set(table.column_names) - set(SCHEMA.names))
    if "path" not in table.column_names or wrong:
        raise UserError(
            f"{source}: has the columns {', '.join(table.column_names)}, should have path and, optionally, "
            "start, duration, sensor, time, and no others"
        )
    if "time" in table.column_names:
        index = table.column_names.index("time")
        table = table.set_column(index, "time", _convert_to_utc(table["time"], source))
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in SCHEMA
    ]
    table = pa.table(columns, schema=SCHEMA)
    for name, is_wrong in (("start", pc.less), ("duration", pc.less_equal)):
        row = pc.index(pc.fill_null(is_wrong(table[name], 0), False), True).as_py()
        if row >= 0:
            raise UserError(
                f"{source}: row {row + 1}: {name} is {table[name][row]}, should be a time in the recording"
            )
    empty = pc.index(pc.fill_null(pc.equal(table["path"], ""), True), True).as_py()
    if empty >= 0:
        raise UserError(f"{source}: row {empty + 1} has no path")
    folder = str(PurePosixPath(path).parent)
    paths = [_resolve_path(fs, folder, relative) for relative in table["path"].to_pylist()]
    return table.set_column(0, "path", pa.array(paths, pa.string()))


def _convert_to_utc(times: pa.ChunkedArray, source: str) -> pa.ChunkedArray:
    """Convert a manifest's times to UTC; those without an offset are taken as UTC."""
    if not (pa.types.is_string(times.type) or pa.types.is_large_string(times.type)):
        return times.cast(pa.timestamp("us"))  # converts columns with a time zone to UTC
    texts = times.to_pandas().replace("", None)
    parsed = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    wrong = (parsed.isna() & texts.notna()).to_numpy().nonzero()[0]
    if len(wrong):
        row = wrong[0]
        raise UserError(
            f"{source}: row {row + 1}: time is {texts[row]!r}, should be like 2024-01-31T23:59:59 or "
            "2024-01-31T23:59:59+01:00"
        )
    known = texts.dropna()
    _report_offsets(int(known.str.strip().str.contains(OFFSET).sum()), len(known))
    return pa.chunked_array([pa.array(parsed.dt.tz_localize(None), pa.timestamp("us"))])


def _resolve_path(fs: object, folder: str, path: str) -> str:
    """Return a path of a manifest as an address; relative paths are relative to the manifest."""
    if "://" in path or path.startswith("/"):
        return path
    joined = str(PurePosixPath(folder, path))
    return joined if is_local(fs) else fs.unstrip_protocol(joined)
