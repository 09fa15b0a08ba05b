"""Time and place of clips as vectors: values, missing parts, and wrong files."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from ust.features.context import (
    MISSING,
    SIZE,
    VALUES,
    Place,
    build_context_features,
    context_vector,
    parse_place,
    parse_time,
    read_context,
    read_places,
)
from ust.util.errors import UserError

ROW = {"week": 27, "day": 5, "hour": 15, "borough": 3, "latitude": 40.65, "longitude": -73.97}


def write(path, *rows, drop=()):
    """Write a table with a clip a.wav, b.wav … for each row, which says what differs from `ROW`."""
    names = [row.get("audio_filename", f"{'abcdef'[index]}.wav") for index, row in enumerate(rows)]
    table = pd.DataFrame([ROW | {key: row[key] for key in row if key in ROW} for row in rows], dtype=object)
    table.insert(0, "audio_filename", names)
    table.drop(columns=list(drop)).to_csv(path, index=False)
    return path


def test_values_are_those_of_the_definition(tmp_path):
    (vector,) = read_context(write(tmp_path / "a.csv", {})).values()
    turns = {"hour": 15 / 24, "day": 5 / 7, "week": 26 * 7 / 365.25}
    wanted = {f"{name}_sin": np.sin(2 * np.pi * turn) for name, turn in turns.items()}
    wanted |= {f"{name}_cos": np.cos(2 * np.pi * turn) for name, turn in turns.items()}
    wanted |= {"has_time": 1, "has_coordinates": 1, "borough_3": 1, "latitude": 40.65, "longitude": -73.97}
    assert len(vector) == SIZE
    np.testing.assert_allclose(vector, [wanted.get(name, 0) for name in VALUES], rtol=1e-5)


def test_a_time_is_that_of_its_row(tmp_path):
    """4 July 2026 is the Saturday of ISO week 27."""
    (of_file,) = read_context(write(tmp_path / "a.csv", {})).values()
    np.testing.assert_array_equal(
        context_vector(datetime(2026, 7, 4, 15, 59), Place(40.65, -73.97, 3)), of_file
    )


@pytest.mark.parametrize(
    ("columns", "gone"),
    [
        (("week", "day", "hour"), [name for name in VALUES if name.endswith(("_sin", "_cos", "_time"))]),
        (("latitude", "longitude"), ["latitude", "longitude", "has_coordinates"]),
        (("borough",), ["borough_3"]),
        (tuple(ROW), list(VALUES)),
    ],
)
def test_missing_parts_are_zero(tmp_path, columns, gone):
    whole, vector = read_context(write(tmp_path / "a.csv", {}, dict.fromkeys(columns, ""))).values()
    np.testing.assert_array_equal(vector, [0 if n in gone else v for n, v in zip(VALUES, whole, strict=True)])


def test_v1_has_no_context(tmp_path):
    assert read_context(write(tmp_path / "a.csv", {}, drop=ROW)) == {}
    np.testing.assert_array_equal(context_vector(), MISSING)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"hour": 25}, "line 3: hour is '25', should be a whole number from 0 to 23"),
        ({"hour": 7.5}, "line 3: hour is '7.5', should be a whole number"),
        ({"week": 60}, "line 3: week is '60', should be a whole number from 1 to 53"),
        ({"day": 7}, r"line 3: day is '7', should be a whole number from 0 to 6 \(0 is Monday\)"),
        ({"borough": 6}, "line 3: borough is '6', should be a whole number from 1 to 5 .*3 Brooklyn"),
        ({"borough": "Gotham"}, "line 3: borough is 'Gotham'"),
        ({"latitude": 91}, "line 3: latitude is '91', should be a number from -90 to 90"),
        ({"longitude": "nan"}, "line 3: longitude is 'nan'"),
        ({"hour": ""}, "line 3: hour empty, should have a value, as hour, day, week belong together"),
        ({"latitude": ""}, "line 3: latitude empty"),
        ({"audio_filename": "a.wav", "hour": 3}, "clip a.wav has rows with different hour"),
    ],
)
def test_wrong_values_are_named_with_line_and_column(tmp_path, row, message):
    path = write(tmp_path / "annotations.csv", {}, row)
    with pytest.raises(UserError, match=rf"annotations.csv: 1 problem\(s\)[^\n]*\n  {message}"):
        read_context(path)


def test_half_of_the_columns_are_missing(tmp_path):
    path = write(tmp_path / "annotations.csv", {}, drop=("borough", "latitude", "longitude"))
    with pytest.raises(UserError, match=r"annotations.csv: column\(s\) borough, latitude, longitude missing"):
        read_context(path)


def test_features_are_in_the_rows_of_the_other_features(stored):
    from ust.features.store import Features

    first = stored["vggish"]
    keys = first.clip, first.variant, first.split
    rows = Features("a.h5", "vggish", *keys, keys[0], first.values, {}, first.values[:0])
    vector = context_vector(datetime(2026, 7, 4))
    features = build_context_features({"t3.wav": vector}, rows)
    np.testing.assert_array_equal(features.clip, rows.clip)
    found = features[np.arange(len(rows.clip))]
    for clip, values in zip(rows.clip, found, strict=True):  # variants have the context of their clip
        np.testing.assert_array_equal(values, vector if clip == "t3.wav" else MISSING)
    other = build_context_features({"t3.wav": context_vector(datetime(2026, 7, 5))}, rows)
    assert features.digest() != other.digest()


def test_time_and_place_of_the_command_line():
    assert parse_time("2026-07-04T15:00") == datetime(2026, 7, 4, 15)
    assert parse_place("40.73, -73.99") == Place(40.73, -73.99)
    assert parse_place("40.73,-73.99,staten island").borough == 5
    assert parse_place("40.73,-73.99,1").borough == 1
    with pytest.raises(UserError, match=r"the time is 'noon', should be local time such as 2026-07-04T15:00"):
        parse_time("noon")
    for text in ("here", "40.73", "40.73,-73.99,Gotham", "1,2,3,4"):
        with pytest.raises(UserError, match=r"the place is .* should be LATITUDE,LONGITUDE"):
            parse_place(text)
    for text, column in (("140,-73", "latitude"), ("40,-273", "longitude"), ("40,-73,9", "borough")):
        with pytest.raises(UserError, match=rf"{column} is .*, should be a"):
            parse_place(text)


def test_places_of_sensors(tmp_path):
    path = tmp_path / "sensors.csv"
    path.write_text("sensor,latitude,longitude,borough\nroof,40.7,-73.9,\nyard,40.6,-74,3\n")
    assert read_places(path) == {"roof": Place(40.7, -73.9), "yard": Place(40.6, -74.0, 3)}
    path.write_text("sensor,latitude,longitude\nroof,40.7,-73.9\n")
    assert read_places(path) == {"roof": Place(40.7, -73.9)}
    path.write_text("sensor,latitude,longitude\nroof,940.7,-73.9\nroof,,\n")
    with pytest.raises(UserError, match=r"sensors.csv: 2 problem.*\n.*line 2: latitude.*\n.*line 3: sensor"):
        read_places(path)
    path.write_text("sensor,lat\nroof,1\n")
    with pytest.raises(UserError, match="latitude, longitude missing"):
        read_places(path)
