"""What there is to tag: the recordings below an address, or those of a manifest."""

import re
from datetime import datetime
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from ust.archive.places import explaining, filesystem, is_local
from ust.audio.suffixes import below, is_audio, is_hidden
from ust.files.errors import UserError
from ust.files.names import printable

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("start", pa.float64()),
        ("duration", pa.float64()),
        ("sensor", pa.string()),
        ("time", pa.timestamp("us")),
    ]
)
MANIFESTS = (".csv", ".parquet")
# In a file's name, as AudioMoth and others write it: 20240131_235959.
CLOCK = re.compile(r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)[_T-]?(\d\d)[:-]?(\d\d)[:-]?(\d\d)(?!\d)")


def find_recordings(source: str) -> pa.Table:
    """The recordings to tag, sorted by path and start.

    Parameters
    ----------
    source : str
        A folder, a pattern such as ``s3://bucket/2024/**/*.flac``, or a manifest: a CSV or Parquet file with
        a column ``path`` (relative to the manifest, or an address) and, as far as known, ``start`` and
        ``duration`` in seconds of the part to tag, ``sensor``, and ``time`` of the file's beginning.

    Returns
    -------
    pyarrow.Table
        Of `SCHEMA`; null where something is not known. Without a manifest, ``time`` is what the file's name
        says (20240131_235959), and ``sensor`` the folder that holds it.

    Raises
    ------
    UserError
        If there are none, the address cannot be opened, or a manifest has wrong columns or values.
    """
    with explaining(source):
        fs, place = filesystem(source)
        if PurePosixPath(place).suffix.lower() in MANIFESTS:
            table = _of_manifest(fs, place, source)
        else:
            pattern = any(sign in place for sign in "*?[")
            if not pattern and not fs.exists(place):
                raise FileNotFoundError
            paths = sorted(fs.glob(place) if pattern else fs.find(place))
            paths = [path for path in paths if is_audio(path) and not is_hidden(below(path, place))]
            table = _of_paths([path if is_local(fs) else fs.unstrip_protocol(path) for path in paths])
    if not len(table):
        raise UserError(f"{source}: no recordings there")
    return table.sort_by([("path", "ascending"), ("start", "ascending")])


def _of_paths(paths: list[str]) -> pa.Table:
    return pa.table(
        {
            "path": pa.array(map(printable, paths), pa.string()),
            "start": pa.nulls(len(paths), pa.float64()),
            "duration": pa.nulls(len(paths), pa.float64()),
            "sensor": pa.array([printable(PurePosixPath(path).parent.name) for path in paths], pa.string()),
            "time": pa.array([_time_of(PurePosixPath(path).name) for path in paths], pa.timestamp("us")),
        },
        schema=SCHEMA,
    )


def _time_of(name: str) -> datetime | None:
    """What a file's name says; None where it is no date or no time of day."""
    clock = CLOCK.search(name)
    try:
        return datetime(*map(int, clock.groups())) if clock else None
    except ValueError:
        return None


def _of_manifest(fs: object, place: str, source: str) -> pa.Table:
    with fs.open(place, "rb") as file:
        if place.lower().endswith(".csv"):
            types = {field.name: field.type for field in SCHEMA}
            options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
            table = pyarrow.csv.read_csv(file, convert_options=options)
        else:
            table = pyarrow.parquet.read_table(file)
    wrong = sorted(set(table.column_names) - set(SCHEMA.names))
    if "path" not in table.column_names or wrong:
        raise UserError(
            f"{source}: has the columns {', '.join(table.column_names)}, should have path and, as far as "
            "known, start, duration, sensor, time, and no others"
        )
    columns = []
    for field in SCHEMA:
        known = field.name in table.column_names
        columns.append(table[field.name].cast(field.type) if known else pa.nulls(len(table), field.type))
    table = pa.table(columns, schema=SCHEMA)
    for name, low in (("start", pc.less), ("duration", pc.less_equal)):
        bad = pc.index(pc.fill_null(low(table[name], 0), False), True).as_py()
        if bad >= 0:
            raise UserError(f"{source}: row {bad + 1}: {name} is {table[name][bad]}, no time in a file")
    empty = pc.index(pc.fill_null(pc.equal(table["path"], ""), True), True).as_py()
    if empty >= 0:
        raise UserError(f"{source}: row {empty + 1} has no path")
    folder = str(PurePosixPath(place).parent)
    paths = [_beside(fs, folder, path) for path in table["path"].to_pylist()]
    return table.set_column(0, "path", pa.array(paths, pa.string()))


def _beside(fs: object, folder: str, path: str) -> str:
    """A manifest's path as an address: what is relative is relative to the manifest."""
    if "://" in path or path.startswith("/"):
        return path
    joined = str(PurePosixPath(folder, path))
    return joined if is_local(fs) else fs.unstrip_protocol(joined)
