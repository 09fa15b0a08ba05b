"""Tagging archives of recordings: sharding, resuming, clusters, object storage and queries."""

import contextlib
import errno
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import torch
from conftest import ROOT
from joblib.externals.loky import get_reusable_executor
from tiny import ALONE

from ust.annotations.taxonomy import Taxonomy
from ust.archive.filesystems import normalize_address, open_recording_file, resolve_address
from ust.archive.folder import Archive
from ust.archive.query import GROUPINGS, find_label, parse_condition, run_query, summarize
from ust.archive.recordings import SCHEMA, find_recordings
from ust.archive.shard import column_names
from ust.models.checkpoints import SavedNetwork, save_network
from ust.models.cnn import CNN
from ust.reports.archive_report import format_overview, hours_by_day, render_overview
from ust.tagging.tagger import Tagger
from ust.util import engines
from ust.util.errors import UserError

LOGMEL = {"sample_rate": 8000, "n_fft": 512, "hop_length": 128, "n_mels": 108, "versions": "any"}
RATE = 8000
CORRUPT = 4


@pytest.fixture(scope="module")
def place(tmp_path_factory, taxonomy):
    """Return a folder with an untrained system in models/ and short recordings, some corrupt, in in/."""
    folder = tmp_path_factory.mktemp("archive")
    torch.manual_seed(0)
    features = {"logmel": {"kind": "logmel", **LOGMEL}}
    metadata = {"taxonomy": asdict(taxonomy), "inputs": {"logmel": "logmel"}, "features": features}
    save_network(
        folder / "models" / "cnn", SavedNetwork(CNN(ALONE, 37), "cnn", ALONE, list(taxonomy.labels), metadata)
    )
    rng = np.random.default_rng(0)
    for index in range(20):
        path = folder / "in" / f"sensor{index % 3}" / f"202403{1 + index // 10:02}_{index:02}3000.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = 25 if index == 5 else 2
        sf.write(path, 0.1 * rng.standard_normal(seconds * RATE), RATE)
    good = sorted((folder / "in").rglob("*.wav"))
    for number, content in enumerate([b"", b"no sound", good[0].read_bytes()[:44], b"RIFF"]):
        (folder / "in" / f"corrupt{number}.wav").write_bytes(content)
    return folder


PARTLY = "could not be tagged; "  # exit code 1, but everything that can be done is done


def ust(place, command, *words, code=0):
    """Run a command of the program in a folder; return its output."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    logging.getLogger("ust").addHandler(handler)
    try:
        with contextlib.chdir(place), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            module = import_module(f"ust.cli.{command.replace('-', '_')}")
            module.main(f"ust {command}", list(map(str, words)))
        assert code == 0, out.getvalue()
    except UserError as error:
        if code == 0 and PARTLY in str(error):
            return f"{out.getvalue()}\n{error}"
        assert code == 1, error
        return str(error)
    finally:
        logging.getLogger("ust").removeHandler(handler)
    return out.getvalue()


def tag(place, out, *words, **more):
    return ust(place, "tag-archive", "in", out, "--system", "cnn", "--shard-clips", 5, *words, **more)


@pytest.fixture(scope="module")
def tagged(place):
    """The archive that one process writes."""
    tag(place, "alone", "--threshold", 0.5, "--embeddings")
    return place / "alone"


def read_tables(folder, kind="tags"):
    """Return the rows of one kind of all shards."""
    return pd.concat(pd.read_parquet(path) for path in sorted((folder / kind).iterdir()))


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def test_archive_tags_match_the_tagger(place, tagged):
    tagger = Tagger.load(place / "models" / "cnn")
    rows = read_tables(tagged)
    assert len(rows) == 19 + 3  # the one of 25 s has three windows
    assert not rows.duplicated(["path", "start"]).any()
    for path, found in rows.groupby("path"):
        wanted = list(tagger.tag(path, hop=10.0))
        np.testing.assert_allclose(
            found[list(tagger.taxonomy.labels)], [window.probabilities for window in wanted], atol=1e-5
        )
        assert found["start"].tolist() == [window.start for window in wanted]
    long = rows[rows["duration"].between(4, 6)].iloc[0]
    assert str(long["time"]) == "2024-03-01 05:30:20"
    assert long["sensor"] == "sensor2"


def test_unreadable_recordings_are_listed_with_reason(tagged):
    rows = read_tables(tagged, "failures")
    assert len(rows) == CORRUPT
    assert rows["reason"].str.contains("decoded as audio|holds no samples|the file is empty").all()


def test_events_are_intervals_above_the_threshold(place, tagged):
    tags, events = read_tables(tagged), read_tables(tagged, "events")
    labels = list(Tagger.load(place / "models" / "cnn").taxonomy.labels)
    short = tags[tags["duration"] < 3].set_index("path")[labels]
    wanted = {(path, label) for path, row in short.iterrows() for label in labels if row[label] >= 0.5}
    found = events[events["path"].isin(short.index)]
    assert set(zip(found["path"], found["label"], strict=True)) == wanted


def test_second_run_does_nothing_and_other_model_is_refused(place, tagged):
    before = content(tagged)
    assert "5 of 5 shards are done" in tag(place, "alone", "--threshold", 0.5, "--embeddings")
    assert content(tagged) == before
    message = ust(place, "tag-archive", "in/sensor0", "alone", "--system", "cnn", code=1)
    assert f"created with another source ({place / 'in'}, now {place / 'in' / 'sensor0'})" in message
    message = tag(place, "alone", "--threshold", 0.4, "--embeddings", code=1)
    assert "created with another threshold (0.5, now 0.4)" in message
    assert '"siren > 0.3" replace a threshold' in message
    assert "another threshold (0.5, now that of each label)" in tag(place, "alone", "--embeddings", code=1)
    assert "not an archive of tags" in tag(place, "in", code=1)


def test_shards_and_interrupted_runs_give_the_same_archive(place, tagged):
    options = ("--threshold", 0.5, "--embeddings")
    tag(place, "shares", "--shard", "2/2", *options)
    assert len(Archive(str(place / "shares")).finished_shards()) == 2
    tag(place, "shares", "--shard", "1/2", *options)
    assert content(place / "shares") == content(tagged)
    (place / "shares" / "tags" / "00003.parquet").unlink()
    tag(place, "shares", *options)
    assert content(place / "shares") == content(tagged)


def test_retagging_from_embeddings_matches(place, tagged):
    ust(place, "tag-archive", "alone", "anew", "--system", "cnn")
    for path in sorted((tagged / "tags").iterdir()):
        old, new = pd.read_parquet(path), pd.read_parquet(place / "anew" / "tags" / path.name)
        pd.testing.assert_frame_equal(old, new, atol=1e-5)
    failures = Path("failures", "00000.parquet")
    assert (place / "anew" / failures).read_bytes() == (tagged / failures).read_bytes()


class Cluster:
    """A Dask scheduler and its workers, each in a process."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.start_scheduler()

    def start_scheduler(self):
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        words = ["scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1"]
        self.scheduler = self.start(*words, "--scheduler-file", str(file))
        while not file.exists():
            assert self.scheduler.poll() is None
            time.sleep(0.1)
        self.address = pd.read_json(file, typ="series")["address"]

    def start_worker(self, code=ROOT):
        words = ("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        return self.start(*words, code=code)

    def start(self, *words, code=ROOT):
        with (self.folder / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *words], stdout=log, stderr=log, cwd=self.folder,
                env=os.environ | {"PYTHONPATH": str(code)},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.stop()


def begin(place, out, cluster, *words):
    """Start the command as a process."""
    command = [
        sys.executable, "-m", "ust", "tag-archive", "in", out, "--system", "cnn", "--shard-clips", "1",
        "--scheduler", cluster.address, *words,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=place, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )


def wait_for_shards(folder, count, process):
    while len(Archive(str(folder)).finished_shards() if folder.exists() else ()) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def assert_done(process):
    """Check that a process has tagged every readable recording."""
    _, message = process.communicate()
    assert process.returncode == 0 or (process.returncode == 1 and PARTLY in message), message


def test_killed_workers_are_replaced(place, cluster):
    tag(place, "single", "--shard-clips", 1)
    first, _ = cluster.start_worker(), cluster.start_worker()
    process = begin(place, "killed", cluster)
    wait_for_shards(place / "killed", 3, process)
    first.send_signal(signal.SIGKILL)
    cluster.start_worker()
    assert_done(process)
    assert content(place / "killed") == content(place / "single")


def test_lost_scheduler_is_reported_and_run_resumes(place, cluster):
    cluster.start_worker()
    process = begin(place, "lost", cluster)
    wait_for_shards(place / "lost", 2, process)
    cluster.scheduler.kill()
    _, message = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in message
    assert "run the same command again to resume" in message
    finished = Archive(str(place / "lost")).finished_shards()
    parts = {shard: place / "lost" / "tags" / f"{shard:05}.parquet" for shard in finished}
    stamps = {shard: part.stat().st_mtime_ns for shard, part in parts.items()}
    cluster.start_scheduler()
    cluster.start_worker()
    process = begin(place, "lost", cluster)
    assert_done(process)
    for shard, stamp in stamps.items():
        assert parts[shard].stat().st_mtime_ns == stamp
    assert Archive(str(place / "lost")).finished_shards() == set(range(24))


def test_workers_of_another_version_are_refused(place, cluster, tmp_path):
    """A worker with an edited module is another version."""
    shutil.copytree(ROOT / "ust", tmp_path / "other" / "ust", ignore=shutil.ignore_patterns("__pycache__"))
    shard = tmp_path / "other" / "ust" / "archive" / "shard.py"
    shard.write_text(shard.read_text().replace("ROWS_PER_WRITE = 1024", "ROWS_PER_WRITE = 1025"))
    cluster.start_worker(code=tmp_path / "other")
    process = begin(place, "others", cluster)
    _, message = process.communicate()
    assert process.returncode == 1
    assert "1 worker(s) have other code" in message
    assert "Traceback" not in message
    assert not (place / "others" / "tags").exists()


def test_full_disk_at_a_worker_is_reported(place, cluster, disk):
    """Finished shards are kept; with more room the same command completes the archive."""
    folder = disk("size=1m")
    filler = folder / "filler"
    cluster.start_worker()
    process = begin(place, str(folder / "out"), cluster)
    wait_for_shards(folder / "out", 2, process)
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    _, message = process.communicate()
    assert process.returncode == 1, message
    assert "no space is left on the disk" in message
    assert "Traceback" not in message
    finished = Archive(str(folder / "out")).finished_shards()
    assert 2 <= len(finished) < 24
    for shard in finished:
        pq.read_table(folder / "out" / "tags" / f"{shard:05}.parquet")
    filler.unlink()
    process = begin(place, str(folder / "out"), cluster)
    assert_done(process)
    tag(place, "single", "--shard-clips", 1)
    made = {name: data for name, data in content(folder / "out").items() if name != "archive.json"}
    assert made.items() <= content(place / "single").items()


@pytest.fixture(scope="module")
def storage():
    """The address of a local S3 server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(storage, monkeypatch):
    """The file system of the S3 server, with credentials in the environment."""
    import s3fs

    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "ENDPOINT_URL": storage}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    get_reusable_executor().shutdown()  # processes that do not know of them
    return s3fs.S3FileSystem(skip_instance_cache=True)


def test_object_storage_gives_the_same_tags(place, tagged, store):
    store.mkdir("city")
    store.put(str(place / "in"), "city/in", recursive=True)
    words = ("--system", "cnn", "--shard-clips", 5)
    ust(place, "tag-archive", "s3://city/in/**/*.wav", "s3://city/out", *words)
    store.invalidate_cache()
    for path in sorted((tagged / "tags").iterdir()):
        with store.open(f"city/out/tags/{path.name}") as file:
            found = pq.read_table(file).to_pandas()
        wanted = pd.read_parquet(path)
        for table in (found, wanted):
            table["path"] = table["path"].str.rpartition("/in/")[2]
        pd.testing.assert_frame_equal(found, wanted)
    assert "22 windows" not in ust(place, "tag-archive", "s3://city/in/**/*.wav", "s3://city/out", *words)
    assert "does not exist" in ust(place, "tag-archive", "s3://nowhere/in", "out", *words, code=1)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("nowhere", "out"), "nowhere: does not exist"),
        (("teleport://city", "out"), "cannot be opened"),
        (("models/cnn", "out"), "contains no recordings"),
        (("in", "unreached", "--scheduler", "tcp://127.0.0.1:9"), "cannot be reached"),
        (("in", "out", "--shard", "3/2"), "should be I/N"),
        (("in", "out", "--hop", "20"), "hop is 20.0"),
        (("alone", "out", "--embeddings"), "--embeddings needs audio"),
        (("in", "out", "--threshold", "50"), "--threshold: is 50, should be a probability from 0 to 1"),
        (("wrong.csv", "out"), "should have path"),
        (("negative.csv", "out"), "row 2: start is -1"),
    ],
)
def test_invalid_input_gives_one_error_line(place, tagged, monkeypatch, words, wanted):
    (place / "wrong.csv").write_text("file,begin\na.wav,0\n")
    (place / "negative.csv").write_text("path,start\na.wav,0\nb.wav,-1\n")
    monkeypatch.setattr(engines, "CONNECT_TIMEOUT", "1s")
    message = ust(place, "tag-archive", *words, "--system", "cnn", code=1)
    assert wanted in message


def test_manifest_selects_a_part_of_a_file(place):
    long = next(path for path in (place / "in").rglob("*.wav") if path.stat().st_size > 20 * RATE * 2)
    manifest = place / "manifest.csv"
    manifest.write_text(
        f"path,start,duration,sensor,time\n{long.relative_to(place)},10,12,roof,2024-01-31 23:59:55\n"
        f"{long.relative_to(place)},40,,roof,\n"
    )
    ust(place, "tag-archive", "manifest.csv", "parts", "--system", "cnn")
    rows = pd.read_parquet(place / "parts" / "tags" / "00000.parquet")
    assert rows["start"].tolist() == [10, 20]
    assert rows["duration"].tolist() == [10, 2]
    assert rows["time"].astype(str).tolist() == ["2024-02-01 00:00:05", "2024-02-01 00:00:15"]
    failed = pd.read_parquet(place / "parts" / "failures" / "00000.parquet")
    assert failed["reason"].tolist() == ["has no second 40, lasts 25 s"]


def test_sections_of_a_file_are_separate_recordings_when_retagged(place):
    """Their events are not merged, as they are not when the audio is tagged."""
    long = next(path for path in (place / "in").rglob("*.wav") if path.stat().st_size > 20 * RATE * 2)
    name = long.relative_to(place)
    (place / "sections.csv").write_text(
        f"path,start,duration,time\n{name},0,10,2024-01-31 10:00:00\n{name},10,10,2024-02-28 11:00:00\n"
    )
    options = ["--system", "cnn", "--threshold", "0"]
    ust(place, "tag-archive", "sections.csv", "sections", "--embeddings", *options)
    ust(place, "tag-archive", "sections", "again", *options)
    old, new = (read_tables(place / folder, "events") for folder in ("sections", "again"))
    columns = ["label", "start", "duration", "time"]
    assert set(old["start"]) == {0, 10}
    pd.testing.assert_frame_equal(
        *(table[columns].sort_values(columns, ignore_index=True) for table in (old, new))
    )


def test_errors_of_the_caller_are_not_taken_as_those_of_a_recording(place):
    recording = next((place / "in").rglob("*.wav"))
    with pytest.raises(MemoryError), open_recording_file(str(recording)):
        raise MemoryError


def test_query_matches_counts_by_hand(tagged, taxonomy):
    archive, rows = Archive(str(tagged)), read_tables(tagged)
    level = float(rows["5-3_siren"].median())
    condition = parse_condition(
        f"siren > {level:.6f} and not (1_engine < 0.2 or music >= 0.99)", taxonomy.labels
    )
    right = (rows["5-3_siren"] > round(level, 6)) & ~((rows["1_engine"] < 0.2) | (rows["6_music"] >= 0.99))
    counts, clips = run_query(archive, condition, by=["hour", "sensor"], top=3)
    keys = [rows["time"].dt.hour.rename("hour"), rows["sensor"]]
    wanted = rows.assign(right=right).groupby(keys)["right"].agg(["size", "sum"]).reset_index()
    assert counts["hour"].tolist() == wanted["hour"].tolist()
    assert counts["windows"].tolist() == wanted["size"].tolist()
    assert counts["matching"].tolist() == wanted["sum"].tolist()
    assert clips["5-3_siren"].tolist() == sorted(rows["5-3_siren"][right], reverse=True)[:3]
    everything, _ = run_query(archive, condition)
    assert everything["matching"].tolist() == [right.sum()]


@pytest.mark.parametrize(
    "text",
    ["", "siren >", "siren > high", "siren > 0.5 and", "(siren > 0.5", "siren > 0.5)", "> 0.5",
     "siren > 0.5; drop table tags", "siren > 0.5 or nosuch > 1", "1-X > 0.5 siren > 0.5", "path",
     "siren > 0,8", "siren > 0.5 -- x", "exists (from windows)", "hour(sensor) > 3",
     "exists (select * from read_csv('/etc/passwd'))", "sensor in (select 'a' from read_text('/etc/passwd'))",
     "siren > 0.5) union select * from (tags"],
)  # fmt: skip
def test_invalid_conditions_are_refused(taxonomy, text):
    with pytest.raises(UserError):
        parse_condition(text, taxonomy.labels)


@pytest.mark.parametrize(
    ("text", "number"),
    [("engine > 80", "80"), ("engine > -1", "-1"), ("0.2 < engine and 5 > engine", "5"),
     ("engine between 0.1 and 10", "10"), ('hour < 6 and "1_engine" <= 1.5', "1.5")],
)  # fmt: skip
def test_probability_must_be_compared_with_a_probability(taxonomy, text, number):
    with pytest.raises(UserError, match=f"has {number}, but probabilities are from 0 to 1"):
        parse_condition(text, taxonomy.labels)


def test_conditions_are_sql_over_labels_times_and_names(tagged, taxonomy):
    """Compared with pandas, whose expressions use other operators."""
    rows = read_tables(tagged)
    thresholds = {"5-3_siren": 0.505, "1_engine": 0.495, "6_music": 0.5}
    siren, engine = rows["5-3_siren"].astype(float), rows["1_engine"].astype(float)
    has_siren, has_engine, has_music = (rows[label] >= np.float32(low) for label, low in thresholds.items())
    time, sensor, path = rows["time"], rows["sensor"], rows["path"]
    for text, wanted in {
        "siren": has_siren,
        "not siren and (engine or hour < 6)": ~has_siren & (has_engine | (time.dt.hour < 6)),
        "weekday = 5 and sensor = 'sensor1'": (time.dt.day_of_week == 4) & (sensor == "sensor1"),
        "day = '2024-03-02'": time.dt.strftime("%Y-%m-%d") == "2024-03-02",
        "greatest(siren, engine) > 0.5": np.maximum(siren, engine) > 0.5,
        "siren between 0.5 and 0.51 or music": siren.between(0.5, 0.51) | has_music,
        "siren or month = '2024-03' and time is null": has_siren | time.isna(),
        "path like '%sensor0%' and not engine": path.str.contains("sensor0") & ~has_engine,
        "week = '2024-W09' or 0.49 < engine": (time.dt.isocalendar().week == 9) | (engine > 0.49),
    }.items():
        condition = parse_condition(text, taxonomy.labels, thresholds)
        counts, _ = run_query(Archive(str(tagged)), condition)
        assert counts["matching"].tolist() == [wanted.sum()], text


def test_query_events_equal_archive_events(place, tagged, taxonomy):
    """Number, minutes and start times of each label's events are those that tag-archive wrote."""
    archive, events = Archive(str(tagged)), read_tables(tagged, "events")
    for label in ("1_engine", "5-3_siren", "6_music", "8_dog"):
        counts, _ = run_query(archive, parse_condition(label, taxonomy.labels), by=["day", "sensor"])
        wanted = events[events["label"] == label]
        assert counts["events"].sum() == len(wanted)
        assert counts["minutes"].sum() == pytest.approx(wanted["duration"].sum() / 60)
        assert counts["hours"].sum() == pytest.approx((19 * 2 + 25) / 3600)
        keys = [wanted["time"].dt.normalize().rename("day"), wanted["sensor"]]
        by = wanted.groupby(keys)["label"].size()
        found = counts.set_index(["day", "sensor"])["events"]
        assert found[found > 0].sort_index().to_dict() == by.sort_index().to_dict()


def test_overlapping_windows_are_one_event(tmp_path, taxonomy):
    """Windows of 10 s start every 5 s: two match, one does not, one starts where the last ended."""
    rows = [("a", 0, 0.9), ("a", 5, 0.8), ("a", 10, 0.1), ("a", 20, 0.7), ("b", 0, 0.9), ("a", 15, 0.6)]
    table = {"path": [row[0] for row in rows], "start": [float(row[1]) for row in rows],
             "duration": [10.0] * 6, "sensor": [None] * 6, "time": pa.nulls(6, pa.timestamp("us")),
             "model": ["m"] * 6, "1_engine": pa.array([row[2] for row in rows], pa.float32())}  # fmt: skip
    archive = Archive(str(tmp_path / "out"))
    archive.create({"labels": ["1_engine"]})
    (tmp_path / "out" / "tags").mkdir()
    pq.write_table(pa.table(table), tmp_path / "out" / "tags" / "00000.parquet")
    counts, _ = run_query(archive, parse_condition("engine", ["1_engine"]))
    row = counts.iloc[0]
    assert (row["windows"], row["matching"], row["events"]) == (6, 5, 2)
    assert row["minutes"] * 60 == pytest.approx(30 + 10)
    assert row["hours"] * 3600 == pytest.approx(30 + 10)
    nothing, none = run_query(archive, parse_condition("engine > 0.95", ["1_engine"]), by=list(GROUPINGS))
    assert nothing["matching"].sum() == 0
    assert none.empty
    overview = summarize(archive, ["1_engine"])
    assert (overview.recordings, overview.sensors, overview.first) == (2, 0, None)
    assert overview.labels.loc["1_engine", ["recordings", "events", "minutes"]].tolist() == [2, 2, 40 / 60]
    assert "times unknown" in format_overview(overview)
    assert overview.clearest["probability"].round(3).tolist() == [0.9, 0.9, 0.8]


def test_class_can_have_the_name_of_a_column():
    assert column_names(Taxonomy(("1_tram", "2_Bell"), (), ())) == ("tram", "Bell")
    assert column_names(Taxonomy(("1_tram", "2_Path"), (), ())) == ("1_tram", "2_Path")


def test_overview_matches_the_tables(place, tagged, taxonomy):
    rows = read_tables(tagged)
    overview = summarize(Archive(str(tagged)), taxonomy.labels, top=2)
    assert (overview.recordings, overview.sensors) == (20, 3)
    assert overview.hours == pytest.approx(63 / 3600)
    assert str(overview.first) == "2024-03-01 00:30:00"
    present = rows[list(taxonomy.labels)] >= 0.5
    shares = present.mean().sort_values(ascending=False, kind="stable")
    assert overview.shown == list(shares[shares > 0].index[:12])
    assert overview.labels["share"].tolist() == pytest.approx(shares[shares > 0][:12].tolist())
    for label, row in overview.labels.iterrows():
        assert row["recordings"] == rows["path"][present[label]].nunique()
        best = overview.clearest[overview.clearest["label"] == label]["probability"].tolist()
        assert best == pytest.approx(rows[label].nlargest(2).tolist())
        hourly = rows.assign(present=present[label]).groupby(rows["time"].dt.floor("h"))["present"].mean()
        assert overview.by_hour[label].tolist() == pytest.approx(hourly.tolist())
    output = ust(place, "query", "alone", "--page", "all.html", "--csv", "all.csv")
    assert "20 recordings, 0.02 hours, 3 sensors, 2024-03-01 00:30 to 2024-03-02 19:30 UTC" in output
    every = pd.read_csv(place / "all.csv", index_col="label")
    assert set(every.index) == set(taxonomy.labels)
    pd.testing.assert_frame_equal(every.loc[overview.shown], overview.labels)
    assert every["share"].tolist() == pytest.approx(shares.loc[every.index].tolist())
    page = (place / "all.html").read_text()
    assert page.count("<audio") == (shares[list(taxonomy.coarse)] > 0).sum()
    assert "data:audio/mpeg;base64," in page
    assert "http" not in page
    sound = next(iter((place / "in").rglob("*.wav")))
    moved = overview.clearest.assign(path=str(sound.with_name("gone.wav")))
    page = render_overview("alone", replace(overview, clearest=moved), ["a warning"], str(place / "in"))
    gone = moved["path"][0].removeprefix(f"{place / 'in'}/")
    assert f"<figcaption>{gone} (cannot be read: does not exist)<br>" in page


def test_long_times_are_shown_by_weekday():
    days = pd.to_datetime(["2024-03-04", "2024-03-11", "2024-05-07"])
    names, shares = hours_by_day(pd.DataFrame({"day": days, "hour": 3, "share": [0.2, 0.4, 1.0]}), "share")
    assert names[:2] == ["Mon", "Tue"]
    assert shares[:2, 3].tolist() == pytest.approx([0.3, 1.0])
    assert np.isnan(shares[2]).all()
    names, shares = hours_by_day(pd.DataFrame({"day": days[:2], "hour": 3, "share": [0.2, 0.4]}), "share")
    assert (len(names), names[-1]) == (8, "2024-03-11")
    assert shares[0, 3] == 0.2


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("engine > 0.999999",), "No window matches the condition."),
        (("engine", "--png", "x.pdf"), "--png is x.pdf, should end with .png"),
        (("--by", "hour"), "--by and --png need a condition"),
        (("engine", "--by", "minute"), "should be any of hour"),
        (("engine", "--top", "0"), "should be at least 1"),
        (("in",), "in: is a folder, should be a condition; a query reads one archive, alone"),
    ],
)
def test_query_reports_empty_results_and_invalid_options(place, tagged, words, wanted):
    code = 0 if "999999" in words[0] else 1
    assert wanted in ust(place, "query", "alone", *words, code=code)


def test_unknown_times_and_warnings_are_reported(place, tmp_path):
    shutil.copy(next((place / "in").rglob("20240301_003000.wav")), tmp_path / "take.wav")
    ust(place, "tag-archive", tmp_path, tmp_path / "out", "--system", "cnn")
    description = Archive(str(tmp_path / "out")).description()
    assert description["warning"] is None
    assert description["thresholds"]["1_engine"] == 0.5
    output = ust(place, "query", tmp_path / "out", "engine >= 0")
    assert "unknown" in output
    assert "NaT" not in output + ust(place, "query", tmp_path / "out")
    files = {name: tmp_path / f"a.{name}" for name in ("png", "html", "csv")}
    options = ("--png", files["png"], "--page", files["html"], "--csv", files["csv"])
    message = ust(place, "query", tmp_path / "out", "engine", *options, code=1)
    assert "no recording's time is known" in message
    assert not any(path.exists() for path in files.values())
    ust(place, "query", tmp_path / "out", "engine", *options[2:])
    assert "The times of the recordings are unknown." in files["html"].read_text()
    content = (tmp_path / "out" / "archive.json").read_text()
    (tmp_path / "out" / "archive.json").write_text(content.replace('"warning": null', '"warning": "made up"'))
    for words in ((), ("engine",)):
        output = ust(place, "query", tmp_path / "out", *words, "--page", tmp_path / "a.html")
        assert "warning: cnn: made up" in output
        assert "Warning: made up." in (tmp_path / "a.html").read_text()


def test_labels_are_found_by_unique_substrings(taxonomy):
    assert find_label("Car Horn", taxonomy.labels) == "5-1_car-horn"
    assert find_label("engine", taxonomy.labels) == "1_engine"  # all of its name
    with pytest.raises(UserError, match="several labels"):
        find_label("saw", taxonomy.labels)


STRANGE = ["site [north]", "what?", "all*", "a::b", "x.csv", "~", "s3:"]


@pytest.mark.parametrize("name", STRANGE)
def test_existing_path_is_not_parsed_as_pattern_or_url(place, tmp_path, name, monkeypatch):
    """Names with special characters, of sources, manifests, recordings, outputs and queries."""
    (sound,) = (place / "in").rglob("20240301_003000.wav")
    (tmp_path / name).mkdir()
    shutil.copy(sound, tmp_path / name / "take [1].wav")
    monkeypatch.chdir(tmp_path)
    wanted = str(tmp_path / name / "take [1].wav")
    for source in (name, f"{name}/", f"./{name}", str(tmp_path / name), f"{name}/take [1].wav"):
        assert find_recordings(source)["path"].to_pylist() == [wanted]
    (tmp_path / name / "m.csv").write_text("path\ntake [1].wav\n")
    assert find_recordings(f"{name}/m.csv")["path"].to_pylist() == [wanted]
    fs, found = resolve_address(wanted)
    assert fs.open(found, "rb").read() == sound.read_bytes()

    assert normalize_address(f"out {name}/") == str(tmp_path / f"out {name}")
    archive = Archive(f"out {name}")  # that does not exist yet
    assert archive.description() is None
    archive.create({"labels": []})
    archive.add_recordings(find_recordings(name), 5)
    assert (tmp_path / f"out {name}" / "recordings.parquet").is_file()
    assert Archive(f"out {name}/").description() == {"labels": []}
    (tmp_path / f"out {name}" / "tags").mkdir()
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / f"out {name}" / "tags" / "00000.parquet")
    assert Archive(f"out {name}").dataset("tags").to_table().num_rows == 1


def test_folder_with_brackets_is_tagged_and_queried(place):
    (sound,) = (place / "in").rglob("20240301_003000.wav")
    (place / "a::b [1]").mkdir()
    shutil.copy(sound, place / "a::b [1]")
    ust(place, "tag-archive", "a::b [1]", "tagged::[1]", "--system", "cnn")
    assert "tagged::[1]: 1 of 1 window" in ust(place, "query", "tagged::[1]", "engine >= 0")
    shutil.rmtree(place / "a::b [1]")


def paths_of(folder, kind="tags"):
    return [Path(path).name for path in read_tables(folder, kind)["path"]]


def test_same_command_tags_only_new_recordings(place, tmp_path):
    sounds = sorted((place / "in" / "sensor0").iterdir())
    words = ("out", "--system", "cnn", "--shard-clips", 2, "--models", place / "models")
    source = tmp_path / "rec"
    source.mkdir()
    for sound in sounds[1:4]:
        shutil.copy(sound, source)
    ust(tmp_path, "tag-archive", "rec", *words)
    before = content(tmp_path / "out")
    shutil.copy(sounds[0], source)  # sorts before those that are tagged
    shutil.copy(sounds[4], source)
    output = ust(tmp_path, "tag-archive", "rec", *words)
    assert "rec: 2 new recordings" in output
    assert "2 of 3 shards are done" in output
    assert "out: 2 recordings, 2 windows" in output
    assert before.items() <= content(tmp_path / "out").items()
    assert paths_of(tmp_path / "out") == [sound.name for sound in (*sounds[1:4], sounds[0], sounds[4])]
    # Other spellings of the same path are the same source.
    after = content(tmp_path / "out")
    for same in ("rec/", "./rec", source, f"{source}/", "../" + tmp_path.name + "/rec"):
        assert "3 of 3 shards are done" in ust(tmp_path, "tag-archive", same, *words)
        assert content(tmp_path / "out") == after
    # Removed recordings are reported; their tags are kept.
    (source / sounds[2].name).unlink()
    output = ust(tmp_path, "tag-archive", "rec/", *words)
    assert f"rec/: no longer has 1 recording of this archive, such as {source / sounds[2].name}" in output
    for path in source.iterdir():
        path.unlink()
    assert "no longer has 5 recordings of this archive" in ust(tmp_path, "tag-archive", "rec", *words)
    assert content(tmp_path / "out") == after
    # A folder of the same name elsewhere is another source.
    (tmp_path / "elsewhere" / "rec").mkdir(parents=True)
    shutil.copy(sounds[0], tmp_path / "elsewhere" / "rec")
    words = (tmp_path / "out", *words[1:])
    assert "another source" in ust(tmp_path / "elsewhere", "tag-archive", "rec", *words, code=1)


def test_failed_recordings_are_tagged_again_on_request(place, tagged, tmp_path):
    """As new shards; a recording that fails again is listed once more, one that is being retried is not."""
    good, other = sorted((place / "in" / "sensor0").iterdir())[:2]
    (tmp_path / "rec").mkdir()
    shutil.copy(good, tmp_path / "rec" / "good.wav")
    for name in ("empty.wav", "torn.wav"):
        (tmp_path / "rec" / name).write_bytes(b"")
    words = ("rec", "out", "--system", "cnn", "--shard-clips", 2, "--models", place / "models")
    assert "2 of 3 recordings could not be tagged; " in ust(tmp_path, "tag-archive", *words)
    before = content(tmp_path / "out")
    shutil.copy(other, tmp_path / "rec" / "empty.wav")
    output = ust(tmp_path, "tag-archive", *words)
    assert "rec: 2 recordings could not be tagged in earlier runs; out/failures has the reasons" in output
    assert content(tmp_path / "out") == before
    # Processes of a job array list the recordings once.
    archive, found = Archive(str(tmp_path / "out")), find_recordings(str(tmp_path / "rec"))
    assert archive.add_recordings(found, 2, retry=True) == (0, 2, [])
    assert archive.add_recordings(found, 2, retry=True) == (0, 0, [])
    output = ust(tmp_path, "tag-archive", *words, "--retry")
    assert "1 of 2 recordings could not be tagged; " in output
    assert before.items() <= content(tmp_path / "out").items()
    assert sorted(paths_of(tmp_path / "out")) == ["empty.wav", "good.wav"]
    assert "rec: 1 recording could not be tagged in earlier runs" in ust(tmp_path, "tag-archive", *words)
    assert "2 recordings, " in ust(tmp_path, "query", "out")
    output = ust(tmp_path, "tag-archive", *words, "--retry")
    assert "rec: trying 1 failed recording again" in output
    assert "1 of 1 recording could not be tagged; " in output
    assert paths_of(tmp_path / "out", "failures") == ["empty.wav", "torn.wav", "torn.wav", "torn.wav"]
    # A removed recording that never had tags is not reported.
    (tmp_path / "rec" / "torn.wav").unlink()
    output = ust(tmp_path, "tag-archive", *words)
    assert "no longer" not in output
    assert "could not be tagged in" not in output
    assert "--retry needs audio" in ust(
        tmp_path, "tag-archive", place / "alone", "again", "--system", "cnn", "--models", place / "models",
        "--retry", code=1,
    )  # fmt: skip


@pytest.fixture
def copied(tagged, tmp_path):
    """A copy of the tagged archive, to be changed."""
    return Path(shutil.copytree(tagged, tmp_path / "copy"))


def test_query_reports_an_archive_that_is_tagged_in_part(place, copied):
    assert "shards are tagged" not in ust(place, "query", copied)
    for shard in (1, 2, 4):
        (copied / "tags" / f"{shard:05}.parquet").unlink()
    wanted = "2 of 5 shards are tagged (10 of 24 recordings)"
    for words in ((), ("engine",)):
        output = ust(place, "query", copied, *words, "--page", "part.html")
        command = f"continue with ust tag-archive {place / 'in'} {copied} and the same options"
        assert f"warning: {copied}: {wanted}; {command}" in output
        assert f"Warning: {wanted}." in (place / "part.html").read_text()


def test_damaged_files_are_named_and_can_be_restored(place, tagged, copied):
    damaged = copied / "tags" / "00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    message = ust(place, "query", copied, "engine", code=1)
    assert message.startswith(f"{damaged}: ")
    assert f"; delete {damaged} and run ust tag-archive again" in message
    first = copied / "tags" / "00000.parquet"
    shutil.copy(damaged, first)
    assert ust(place, "query", copied, code=1).startswith(f"{first}: ")
    for path in (damaged, first):
        path.unlink()
    failures = copied / "failures" / "00001.parquet"
    failures.write_bytes(b"")
    options = ("--threshold", 0.5, "--embeddings")
    message = tag(place, copied, *options, code=1)
    assert message.startswith(f"{failures}: ")
    (copied / "tags" / "00001.parquet").unlink()
    tag(place, copied, *options)
    assert content(copied) == content(tagged)
    (copied / "archive.json").write_text("{")
    assert f"{copied}/archive.json: is not valid JSON" in ust(place, "query", copied, code=1)


def test_grown_archive_with_embeddings_is_retagged(place, tmp_path):
    sounds = sorted((place / "in" / "sensor0").iterdir())
    words = ("--system", "cnn", "--shard-clips", 2, "--models", place / "models")
    (tmp_path / "rec").mkdir()
    for count in (3, 4):
        for sound in sounds[:count]:
            shutil.copy(sound, tmp_path / "rec")
        ust(tmp_path, "tag-archive", "rec", "first", *words, "--embeddings")
        ust(tmp_path, "tag-archive", "first", "second", *words)
        assert paths_of(tmp_path / "second") == paths_of(tmp_path / "first")
        assert len(paths_of(tmp_path / "second")) == count


def recordings(*names):
    return pa.Table.from_pylist([{"path": name} for name in names], schema=SCHEMA)


@pytest.mark.parametrize("where", ["folder", "object storage"])
def test_concurrent_processes_list_each_recording_once(tmp_path, request, where):
    """Jobs start together while recordings arrive; a listed shard never changes."""
    address = str(tmp_path / "out")
    if where == "object storage":
        request.getfixturevalue("store").mkdir("jobs")
        address = "s3://jobs/out"
    started = threading.Barrier(8)

    def job(number):
        archive = Archive(address)
        started.wait()
        archive.description()
        archive.create({"labels": []})
        archive.add_recordings(recordings(*(f"{index:02}" for index in range(10 + number))), 3)
        first = [archive.read_recordings(shard)["path"].to_pylist() for shard in range(archive.shard_count())]
        return list(enumerate(first))

    with ThreadPoolExecutor(8) as pool:
        seen = [each for found in pool.map(job, range(8)) for each in found]
    archive = Archive(address)
    final = [archive.read_recordings(shard)["path"].to_pylist() for shard in range(archive.shard_count())]
    assert sorted(path for shard in final for path in shard) == [f"{index:02}" for index in range(17)]
    assert all(final[shard] == paths for shard, paths in seen)


def test_memory_card_with_odd_files_is_tagged(place, tmp_path):
    """Hidden files are skipped; incomplete and undecodable files are listed."""
    card, good = tmp_path / "card", next((place / "in" / "sensor0").glob("*.wav"))
    for name in (b"a.wav", b"stra\xdfe.wav", b"._a.wav", b".Trashes/a.wav", b"x.raw", b"y.m4a", b"half.wav"):
        path = Path(os.fsdecode(os.fsencode(card) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(good, path)
    (card / "x.raw").write_bytes(bytes(64_000))
    (card / "y.m4a").write_bytes(bytes(range(256)))
    (card / "half.wav").write_bytes(good.read_bytes()[: 44 + 2 * RATE])
    out = tmp_path / "tags"
    message = ust(place, "tag-archive", card, out, "--system", "cnn", "--embeddings", code=1)
    assert "2 of 5 recordings could not be tagged; " in message
    assert f"{card / 'x.raw'}: a .raw file does not tell its rate" in message
    assert paths_of(out) == ["a.wav", "half.wav", "stra\\xdfe.wav"]
    assert paths_of(out, "failures") == ["x.raw", "y.m4a"]
    found = read_tables(out, "warnings")
    assert found["path"].tolist() == [str(card / "half.wav")]
    assert found["warning"].tolist() == ["incomplete: read 1.0 s of 2.0 s"]
    # Retagging also works from archives without the table of warnings.
    for name in ("anew", "older"):
        again = tmp_path / name
        assert PARTLY in ust(place, "tag-archive", out, again, "--system", "cnn", code=1)
        assert len(read_tables(again, "warnings")) == (name == "anew")
        shutil.rmtree(out / "warnings", ignore_errors=True)


@pytest.fixture
def archive_without_exclusive_create(monkeypatch, tmp_path):
    """A function that makes an archive whose store refuses to create files exclusively, always or once."""

    def make_archive(refusal, *, always):
        archive, refused = Archive(f"memory:/{tmp_path}/out"), []
        pipe = archive.fs.pipe_file

        def pipe_file(path, value, mode="overwrite"):
            if mode == "create" and (always or not refused):
                refused.append(path)
                raise refusal
            pipe(path, value, mode=mode)

        monkeypatch.setattr(archive.fs, "pipe_file", pipe_file)
        return archive

    return make_archive


def test_refused_writes_to_a_store_are_reported(archive_without_exclusive_create):
    with pytest.raises(UserError, match="not allowed"):
        archive_without_exclusive_create(PermissionError("no"), always=True).create({"labels": []})


def test_write_is_given_up_after_many_conflicts_with_others(archive_without_exclusive_create, monkeypatch):
    """It would replace what the other process wrote."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    conflict = OSError(errno.EIO, "A conflicting conditional operation is in progress")
    archive = archive_without_exclusive_create(conflict, always=True)
    with pytest.raises(UserError, match=r"other processes keep writing .*; run the command again"):
        archive.create({"labels": []})


@pytest.mark.parametrize(
    ("refusal", "always"),
    [
        (TypeError("mode"), True),
        (OSError(errno.ENOSYS, "not implemented"), True),
        (OSError(errno.EIO, "A conflicting conditional operation is in progress"), False),
    ],
)
def test_stores_without_exclusive_create_are_supported(archive_without_exclusive_create, refusal, always):
    archive = archive_without_exclusive_create(refusal, always=always)
    archive.create({"labels": []})
    archive.create({"labels": ["another process's"]})
    assert archive.add_recordings(recordings("a", "b", "c"), 2) == (3, 0, [])
    assert archive.add_recordings(recordings("b", "d"), 2) == (1, 0, ["a", "c"])
    assert archive.description() == {"labels": []}
    assert [archive.read_recordings(shard)["path"].to_pylist() for shard in range(archive.shard_count())] == [
        ["a", "b"], ["c"], ["d"],
    ]  # fmt: skip


def test_query_writes_its_page(place, tagged):
    ust(place, "query", "alone", "engine > 0.1", "--by", "day,hour", "--page", "a.html", "--csv", "a.csv")
    page = Path(place / "a.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page
    assert pd.read_csv(place / "a.csv")["windows"].sum() == 22
    assert page.count("<audio") == 10
