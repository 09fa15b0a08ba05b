"""Recordings of an archive: their times and sensors, from names and from manifests."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ust.archive.recordings import find_recordings
from ust.archive.times import read_times
from ust.util.errors import UserError


def test_times_and_sensors_are_parsed_from_names(tmp_path, caplog):
    for name in ("a/20240229_120000.wav", "a/20230229_120000.wav", "b/plain.flac", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_recordings(str(tmp_path)).to_pandas()
    assert found["sensor"].tolist() == ["a", "a", "b"]
    assert found["time"].isna().tolist() == [True, False, True]
    assert str(found["time"][1]) == "2024-02-29 12:00:00"
    assert "the time is not known of 2 of 3 recordings, such as 20230229_120000.wav" in caplog.text


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("20240131_235950.WAV", "2024-01-31T23:59:50"),
        ("20240131_235950T.WAV", "2024-01-31T23:59:50"),
        ("20240131235950.wav", "2024-01-31T23:59:50"),
        ("2024-01-31 08.55.26.wav", "2024-01-31T08:55:26"),
        ("2024-01-31 08-55-26.wav", "2024-01-31T08:55:26"),
        ("SM4_0+1_20240131_085526.wav", "2024-01-31T08:55:26"),
        ("SM4_20240131$085526.wav", "2024-01-31T08:55:26"),
        ("20240131T085526Z.wav", "2024-01-31T08:55:26+00:00"),
        ("20240131T085526+0100.wav", "2024-01-31T08:55:26+01:00"),
        ("20240131-085526-0500.wav", "2024-01-31T08:55:26-05:00"),
        ("2024-01-31T08:55:26+05:30.wav", "2024-01-31T08:55:26+05:30"),
        ("20240131_085526+02.wav", "2024-01-31T08:55:26+02:00"),
        ("20240101_003000+0100.wav", "2024-01-01T00:30:00+01:00"),  # still in the old year
        ("5DD4A7F0.WAV", datetime.fromtimestamp(0x5DD4A7F0, UTC).isoformat()),
        ("31-01-2024_08-55-26.wav", "2024-01-31T08:55:26"),
        ("01.02.2024 08.55.26.wav", "2024-02-01T08:55:26"),
        ("20240131_085526-0007.wav", "2024-01-31T08:55:26"),  # the seventh part
        ("1234567890123456.wav", None),
        ("20230229_120000.wav", None),
        ("20240131_240000.wav", None),
        ("20240131.wav", None),
        ("61234567.wav", None),
        ("DEADBEEF.wav", None),
        ("31-02-2024_08-55-26.wav", None),
        ("take 7.wav", None),
    ],
)
def test_times_of_known_recorders_are_parsed(name, time):
    (found,), (known,) = read_times([name])
    wanted = None if time is None else datetime.fromisoformat(time)
    assert known == (wanted is not None and wanted.tzinfo is not None)
    if known:
        wanted = wanted.astimezone(UTC).replace(tzinfo=None)
    assert found == wanted


def test_ambiguous_time_formats_are_resolved_from_all_names():
    def times(*names):
        return [str(time) for time in read_times(names)[0]]

    # 31 cannot be a month, so the first number is the month in all names.
    assert times("01-02-2024_080000.wav", "01-31-2024_080000.wav") == [
        "2024-01-02 08:00:00", "2024-01-31 08:00:00",
    ]  # fmt: skip
    assert times("31-01-2024_080000.wav", "01-31-2024_080000.wav")[0] == "None"
    # -0100 is the hundredth part if there is a 99th.
    assert times("20240131_080000-0100.wav") == ["2024-01-31 09:00:00"]
    assert times("20240131_080000-0100.wav", "20240131_080000-0099.wav") == ["2024-01-31 08:00:00"] * 2
    # Digits only are hexadecimal times if other names are.
    assert times("61234567.WAV") == ["None"]
    assert times("61234567.WAV", "6123456A.WAV") == ["2021-08-23 06:51:19", "2021-08-23 06:51:22"]


def test_utc_offsets_are_applied_in_names_and_manifests(tmp_path, caplog):
    """Times are compared in UTC, not by the clock of the recorder."""
    names = [
        "20240131T085526+0100.wav",
        "20240131T075526Z.wav",
        "20240131T085526Z.wav",
        "20240131_085526.wav",
    ]
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).touch()
    found = find_recordings(str(tmp_path / "in")).to_pandas()
    hours = {Path(path).name: time.hour for path, time in zip(found["path"], found["time"], strict=True)}
    assert [hours[name] for name in names] == [7, 7, 8, 8]
    mixed = "times with an offset from UTC, 1 without; times without an offset are taken as UTC"
    assert f"3 {mixed}" in caplog.text

    stamps = ["2024-01-31T08:55:26+01:00", "2024-01-31 07:55:26Z", "2024-01-31 08:55:26", ""]
    rows = [f"{index}.wav,{stamp}" for index, stamp in enumerate(stamps)]
    (tmp_path / "m.csv").write_text("\n".join(["path,time", *rows]) + "\n")
    found = find_recordings(str(tmp_path / "m.csv")).to_pandas()
    assert found["time"].dt.hour.tolist()[:3] == [7, 7, 8]
    assert f"2 {mixed}" in caplog.text
    assert pd.isna(found["time"][3])
    rows = {"path": ["a.wav"], "time": ["2024-01-31T08:55:26+01:00"]}
    schema = pa.schema([("path", pa.large_string()), ("time", pa.large_string())])  # as Polars writes them
    pq.write_table(pa.table(rows, schema), tmp_path / "m.parquet")
    assert str(find_recordings(str(tmp_path / "m.parquet")).to_pandas()["time"][0]) == "2024-01-31 07:55:26"
    zoned = pd.to_datetime(["2024-01-31 08:55:26"]).tz_localize("Europe/Paris")
    pd.DataFrame({"path": ["a.wav"], "time": zoned}).to_parquet(tmp_path / "m.parquet")
    found = find_recordings(str(tmp_path / "m.parquet")).to_pandas()
    assert str(found["time"][0]) == "2024-01-31 07:55:26"
    (tmp_path / "m.csv").write_text("path,time\na.wav,2024-01-31\nb.wav,noon\n")
    with pytest.raises(UserError, match=r"m\.csv: row 2: time is 'noon', should be like 2024-01-31T23"):
        find_recordings(str(tmp_path / "m.csv"))
