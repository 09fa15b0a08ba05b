"""Conditions, counts and overviews of archives, compared with pandas on made-up tags."""

import io
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from ust.archive.folder import Archive
from ust.archive.query import list_coarse_labels, parse_condition, run_query, summarize
from ust.reports.archive_report import (
    draw_heat_map,
    draw_query_heat_map,
    format_overview,
    render_overview,
    render_query,
    shorten_path,
)
from ust.util.errors import UserError

LABELS = ["1_engine", "6_music", "8_dog", "6-1_radio", "6-X_other-music"]
COARSE = LABELS[:3]


@pytest.fixture(scope="module")
def rows():
    """Windows of 10 s in recordings of a minute, of three sensors; some times are unknown."""
    rng = np.random.default_rng(0)
    tables = []
    for index in range(24):
        start = 10.0 * np.arange(6)
        time = pd.Timestamp(2024, 5, 6, index) + pd.to_timedelta(start, unit="s")
        engine, music = rng.random((2, 6))
        sensor = ("roof", "court", "street")[index % 3]
        columns = {"path": f"/city/{sensor}/{index:02}.wav", "sensor": sensor, "time": time, "start": start,
                   "duration": 10.0, "model": "m", "1_engine": engine, "6_music": music, "8_dog": 0.1,
                   "6-1_radio": music, "6-X_other-music": music}  # fmt: skip
        tables.append(pd.DataFrame(columns))
    rows = pd.concat(tables, ignore_index=True)
    rows.loc[rows["path"].isin(["/city/court/01.wav", "/city/roof/03.wav"]), "time"] = pd.NaT
    return rows.astype(dict.fromkeys(LABELS, "float32"))


@pytest.fixture(scope="module")
def archive(rows, tmp_path_factory):
    archive = Archive(str(tmp_path_factory.mktemp("made-up")))
    archive.create({"labels": LABELS})
    table = pa.Table.from_pandas(rows, preserve_index=False)
    table = table.set_column(2, "time", table["time"].cast(pa.timestamp("us")))
    with archive.shard_writers(0, {"tags": table.schema}) as writers:
        writers["tags"].write_table(table)
    return archive


def count(archive, condition, **options):
    return run_query(archive, parse_condition(condition, LABELS), **options)[0]


def test_terms_without_a_label_restrict_the_windows_that_shares_refer_to(archive, rows):
    engine, hour = rows["1_engine"] > 0.3, rows["time"].dt.hour
    roof = rows["sensor"] == "roof"
    for condition, hits, scope in [
        ("engine > 0.3 and sensor = 'roof'", engine & roof, roof),
        ("sensor = 'roof' and (hour < 6 and engine > 0.3)", engine & roof & (hour < 6), roof & (hour < 6)),
        (
            "engine > 0.3 and not (sensor = 'roof' or hour < 6)",
            engine & ~roof & (hour >= 6),
            ~roof & (hour >= 6),
        ),
        ("hour between 3 and 9 and engine > 0.3", engine & hour.between(3, 9), hour.between(3, 9)),
        ("path like '% and %' or engine > 0.3", engine, roof | True),
        ("not (engine <= 0.3 or sensor <> 'roof')", engine & roof, roof | True),
        ("sensor = 'roof'", roof, roof),
    ]:
        (row,) = count(archive, condition).to_dict("records")
        assert (row["windows"], row["matching"]) == (scope.sum(), hits.sum()), condition
        assert row["hours"] == pytest.approx(scope.sum() * 10 / 3600)
        assert row["share"] == pytest.approx(hits.sum() / scope.sum(), abs=1e-6)
    by = count(archive, "engine > 0.3", by=["sensor"]).set_index("sensor")
    for sensor in by.index:
        (row,) = count(archive, f"sensor = '{sensor}' and engine > 0.3").to_dict("records")
        assert row == pytest.approx(by.loc[sensor].to_dict())
    night = count(archive, "engine and hour < 6", by=["hour"])
    assert night["hour"].tolist() == [0, 2, 4, 5]  # the times of hours 1 and 3 are unknown


@pytest.mark.parametrize(
    ("condition", "term"),
    [("engine and sensor = 'rof'", "sensor = 'rof'"), ("hour > 30", '"hour" > 30'),
     ("sensor = 'roof' and engine and path = 'x'", "(sensor = 'roof') AND (path = 'x')")],
)  # fmt: skip
def test_terms_that_no_window_has_are_refused(archive, condition, term):
    with pytest.raises(UserError) as error:
        count(archive, condition, by=["hour"])
    assert str(error.value).endswith(f"no window of the archive has: {term}")


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("engine > 0,8", "decimals have a point, as in siren > 0.8"),
        ("sensor = roof", "has roof without single quotes; text has them, as in sensor = 'roof'"),
        ('engine and sensor = "roof"', """has "roof" without single quotes"""),
        ("sensor in (roof, court)", "has roof without single quotes"),
        ("time > 2024-05-07", "text and times have single quotes"),
        ("time > 2024-05-07T12:00", "without single quotes"),
        ("musik", "no label contains 'musik'; did you mean 6_music? All labels: 1_engine, "),
        ("xylophone", "no label contains 'xylophone'; there are 1_engine, "),
    ],
)
def test_frequent_mistakes_are_explained(condition, wanted):
    with pytest.raises(UserError) as error:
        parse_condition(condition, LABELS)
    assert wanted in str(error.value)


def test_overview_shows_all_coarse_labels_and_no_fine_ones(archive, rows):
    """Fine labels often have the same windows as their coarse label."""
    overview = summarize(archive, LABELS, coarse=COARSE)
    shares = (rows[COARSE] >= 0.5).mean().sort_values(ascending=False)
    assert overview.shown == list(shares.index)
    assert overview.labels["share"].to_dict() == pytest.approx(shares.to_dict())
    assert overview.undated == 12
    text, page = format_overview(overview, "/city"), render_overview("city", overview, source="/city")
    assert "The coarse labels (3 of 5 labels), " in text
    assert "The coarse labels (3 of 5 labels)" in page
    assert "; not shown: 12 windows without a known time:" in text
    assert "6-1_radio" not in text + page
    assert page.count("share of windows with") == 2  # dogs do not occur
    every = summarize(archive, LABELS, coarse=COARSE, every=True)
    assert every.shown == overview.shown
    assert set(every.labels.index) == set(LABELS)
    one_level = summarize(archive, LABELS, coarse=LABELS)
    assert set(one_level.shown) == {*LABELS} - {"8_dog"}
    assert "The most frequent labels (4 of 5 labels)" in format_overview(one_level)


def test_coarse_labels_of_older_archives_are_known_from_their_numbers():
    assert list_coarse_labels({"labels": LABELS}) == COARSE
    assert list_coarse_labels({"labels": ["tram", "car-horn"]}) == ["tram", "car-horn"]
    assert list_coarse_labels({"labels": ["animal", "dog"], "coarse": ["animal"]}) == ["animal"]


def test_heat_maps_of_pages_are_transparent_and_those_of_files_white(archive):
    by_hour = count(archive, "engine", by=["day", "hour"])
    corners = [
        Image.open(io.BytesIO(draw_heat_map(by_hour, "share", "engine", transparent=each)))
        .convert("RGBA")
        .getpixel((0, 0))
        for each in (True, False)
    ]
    assert corners[0][3] == 0
    assert corners[1] == (255, 255, 255, 255)


def test_heat_map_has_the_number_of_undated_windows_and_notes(archive, monkeypatch):
    texts = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_xlabel", lambda _, text, **__: texts.append(text))
    draw_query_heat_map("engine", count(archive, "engine", by=["day", "hour"]), ["1 of 2 shards are tagged"])
    assert texts == [
        "grey: no recordings\nnot shown: 12 windows without a known time\n1 of 2 shards are tagged"
    ]


def test_page_names_the_recordings_of_each_sensor_and_why_they_cannot_be_read(archive):
    condition = parse_condition("engine", LABELS)
    counts, windows = run_query(archive, condition, top=3)
    by_hour, _ = run_query(archive, condition, by=["day", "hour"])
    page = render_query("engine", counts, windows, by_hour, source="/city")
    for path in windows["path"]:
        assert f"<figcaption>{path.removeprefix('/city/')} (cannot be read: does not exist)<br>" in page


def test_tables_scroll_on_phones_instead_of_breaking_numbers(archive):
    page = render_overview("city", summarize(archive, LABELS, coarse=COARSE))
    assert set(re.findall(r"white-space: ([a-z]+)", page)) == {"nowrap"}
    assert re.search(r'<div class="scroll" tabindex="0"><table>', page)
    assert ".scroll { overflow-x: auto; }" in page


@pytest.mark.parametrize(
    ("path", "source", "wanted"),
    [("/city/roof/a.wav", "/city", "roof/a.wav"), ("/city/a.wav", "/city/a.wav", "a.wav"),
     ("s3://city/2024/roof/a.flac", "s3://city/2024/**/*.flac", "roof/a.flac"),
     ("/city/roof/a.wav", "/lists/manifest.csv", "/city/roof/a.wav")],
)  # fmt: skip
def test_paths_are_relative_to_the_source(path, source, wanted):
    assert shorten_path(path, source) == wanted
