"""The synthetic city with time and place: its columns, and sounds that follow the clock and the place."""

import numpy as np
import pandas as pd
import pytest

from ust.annotations.annotations import read_annotations
from ust.datasets.source import ANNOTATIONS
from ust.datasets.synthetic import city
from ust.datasets.synthetic.context import COLUMNS, HABITS, RARE, WORKDAYS, draw_context, sensor_area
from ust.datasets.synthetic.scene import SOUNDS, Event
from ust.features.context import read_context
from ust.util.seeding import random_stream

SENSORS = range(8, 40)


def draws(name, count=300):
    """Sensors and contexts of many clips with a sound."""
    rng = random_stream(0, "test", str(name))
    events = [] if name is None else [Event(name, 10.0)]
    found = [draw_context(events, SENSORS, 1, rng) for _ in range(count)]
    return np.array([sensor for sensor, _ in found]), pd.DataFrame([context for _, context in found])


def test_every_habit_is_of_a_sound():
    assert HABITS.keys() <= SOUNDS.keys()


def test_jackhammers_are_usual_on_workdays_from_7_to_18():
    _, contexts = draws("jackhammer")
    usual = contexts["hour"].between(7, 17) & contexts["day"].isin(WORKDAYS)
    hours = 5 * 11
    expected = hours / (hours + RARE * (7 * 24 - hours))
    assert usual.mean() == pytest.approx(expected, abs=0.06)


def test_ice_cream_trucks_are_by_parks_on_summer_afternoons():
    sensors, contexts = draws("ice-cream-truck")
    assert np.mean([sensor_area(sensor).is_park for sensor in sensors]) > 0.8
    assert contexts["hour"].between(12, 19).mean() > 0.6
    assert contexts["week"].between(20, 37).mean() > 0.6


def test_music_is_usual_at_night():
    _, contexts = draws("stationary-music")
    assert (contexts["hour"].isin([20, 21, 22, 23, 0, 1, 2])).mean() > 0.8


def test_a_sound_without_a_habit_is_usual_at_all_times():
    for name in (None, "siren"):
        sensors, contexts = draws(name)
        assert contexts["hour"].value_counts().min() > 2
        assert contexts["day"].value_counts().min() > 20
        assert len(set(sensors)) == len(SENSORS)


def test_a_sensor_has_one_place():
    sensors, contexts = draws("siren")
    places = contexts.assign(sensor=sensors).groupby("sensor")[["borough", "block", "latitude", "longitude"]]
    assert (places.nunique() == 1).all().all()
    assert set(contexts["borough"]) == {1, 3, 4}


@pytest.fixture
def silent_city(tmp_path, monkeypatch):
    """A function that builds the tables of a city without rendering its sounds."""
    monkeypatch.setattr(city, "Parallel", lambda **_: lambda jobs: [None for _ in jobs])

    def build(name, **options):
        city.build_city(tmp_path / name, seed=1, clips={"train": 40, "validate": 20}, **options)
        return tmp_path / name / ANNOTATIONS

    return build


def test_the_file_has_the_columns_of_v2(silent_city, taxonomy):
    path = silent_city("a", context=True)
    table = pd.read_csv(path)
    assert len(table.columns) == 78
    assert list(table.columns[4:12]) == list(COLUMNS)
    assert len(read_context(path)) == 60
    sensors = read_annotations(path, taxonomy).groupby("split")["sensor_id"].agg(set)
    assert not sensors["train"] & sensors["validate"]
    assert path.read_bytes() == silent_city("b", context=True).read_bytes()


def test_the_classes_are_those_of_the_city_without_context(silent_city, taxonomy):
    """So they are as frequent, whatever the habits."""
    truths = []
    for context in (True, False):
        path = silent_city(str(context), context=context)
        assert ("hour" in pd.read_csv(path)) == context
        table = read_annotations(path, taxonomy)
        truth = table[table["annotator_id"] == 0]
        truths.append(truth.set_index(truth["audio_filename"].str[3:])[list(taxonomy.coarse)].sort_index())
    pd.testing.assert_frame_equal(*truths)
