"""The tagger: clips, long recordings, streams, output formats and figures."""

import csv
import io
import json
import os
import shutil
import sys
import tracemalloc
from dataclasses import asdict, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile as sf
import torch
from commands import run_ust
from conftest import RATE, ROOT
from ruamel.yaml import YAML
from tiny import ALONE, CONFIG, save_with_context

from ust.annotations.taxonomy import Taxonomy
from ust.audio.recordings import BadAudio
from ust.cli import listen
from ust.cli import tag as tag_command
from ust.cli.console import escape_output
from ust.cli.tag import collect_recordings, main
from ust.features.context import MISSING, Place, context_vector
from ust.models.checkpoints import SavedNetwork, save_network
from ust.models.cnn import CNN
from ust.models.cnn_vggish import CNNVGGish
from ust.models.systems import FlatSystem
from ust.reports import tag_figure
from ust.tagging import formats as tagging
from ust.tagging.locate import find_model
from ust.tagging.tagger import Tagger, Window
from ust.util.errors import UserError

LOGMEL = {"sample_rate": RATE, "n_fft": 2048, "hop_length": 512, "n_mels": 128, "versions": "any"}


@pytest.fixture(scope="module")
def tagger(tmp_path_factory, taxonomy):
    """An untrained log-mel system."""
    folder = tmp_path_factory.mktemp("models") / "cnn"
    torch.manual_seed(0)
    features = {"logmel": {"kind": "logmel", **LOGMEL}}
    metadata = {"taxonomy": asdict(taxonomy), "inputs": {"logmel": "logmel"}, "features": features}
    save_network(folder, SavedNetwork(CNN(ALONE, 37), "cnn", ALONE, list(taxonomy.labels), metadata))
    return Tagger.load(folder)


@pytest.fixture(scope="module")
def with_context(tmp_path_factory, taxonomy):
    """A system of log-mels, time and place, untrained."""
    folder = tmp_path_factory.mktemp("models") / "cnn_context"
    save_with_context(folder, taxonomy, LOGMEL, (128, 862))
    return Tagger.load(folder)


def test_time_and_place_are_an_input(with_context, noise):
    time, place = datetime(2026, 7, 4, 15), Place(40.73, -73.99, 1)
    features = with_context.features([noise], RATE)
    for given, vector in (
        ({"time": time, "place": place}, context_vector(time, place)),
        ({"time": time}, context_vector(time)),
        ({}, MISSING),
    ):
        wanted = with_context.probabilities(features | {"context": vector[None]})[0]
        np.testing.assert_array_equal(with_context.predict(noise, RATE, **given), wanted)
    np.testing.assert_array_equal(with_context.probabilities(features)[0], wanted)
    known = with_context.predict(noise, RATE, time=time)
    assert abs(known - wanted).max() > 0.01


def test_each_window_has_its_own_hour(with_context, tmp_path, noise):
    sf.write(tmp_path / "a.wav", np.tile(noise, 2), RATE)
    place = Place(40.73, -73.99, 1)
    start = datetime(2026, 7, 4, 14, 59, 55)
    windows = list(with_context.tag(tmp_path / "a.wav", hop=10, time=start, place=place))
    for window, hour in zip(windows, (14, 15), strict=True):
        samples, _ = sf.read(tmp_path / "a.wav", start=int(window.start * RATE), frames=10 * RATE)
        wanted = with_context.predict(samples, RATE, time=start.replace(hour=hour), place=place)
        np.testing.assert_allclose(window.probabilities, wanted, atol=1e-6)
    live = with_context.stream([np.tile(noise, 2)], RATE, hop=10, time=start, place=place)
    for window, other in zip(windows, live, strict=True):
        np.testing.assert_allclose(window.probabilities, other.probabilities, atol=1e-3)


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "starts"),
    [
        (10, 10, 5, [0]),
        (3, 10, 5, [0]),
        (10.01, 10, 5, [0, 5]),
        (25, 10, 5, [0, 5, 10, 15]),
        (25, 10, 10, [0, 10, 20]),
        (4, 2, 0.5, [0, 0.5, 1, 1.5, 2]),
    ],
)
def test_windows_cover_the_recording(tagger, tmp_path, seconds, window, hop, starts):
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    sf.write(tmp_path / "a.wav", samples, RATE)
    windows = list(tagger.tag(tmp_path / "a.wav", window=window, hop=hop))
    assert [w.start for w in windows] == starts
    assert windows[-1].end == pytest.approx(seconds, abs=1e-4)
    first = tagger.predict(samples[: round(window * RATE)], RATE)
    np.testing.assert_allclose(windows[0].probabilities, first, atol=1e-3)  # the file has 16 bits
    assert all((w.probabilities >= 0).all() and (w.probabilities <= 1).all() for w in windows)


@pytest.mark.parametrize("seconds", [3, 10, 10.01, 15, 25])
@pytest.mark.parametrize(("window", "hop"), [(10, 5), (10, 10), (4, 3)])
@pytest.mark.parametrize("block", [1000, 44_100, 10**6])
def test_stream_windows_equal_file_windows(monkeypatch, tagger, tmp_path, seconds, window, hop, block):
    # Compare the samples of the windows, not the network's outputs.
    digest = lambda self, clips, rate, contexts: (np.array([[c.sum(), len(c)] for c in clips]), {})  # noqa: E731
    monkeypatch.setattr(Tagger, "_predict", digest)
    samples = np.random.default_rng(0).uniform(-1, 1, (round(seconds * RATE), 2)).astype(np.float32)
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    wanted = list(tagger.tag(tmp_path / "a.wav", window=window, hop=hop))
    blocks = (samples[start : start + block] for start in range(0, len(samples), block))
    found = list(tagger.stream(blocks, RATE, window=window, hop=hop))
    assert [(w.start, w.end) for w in found] == [(w.start, w.end) for w in wanted]
    assert [w.probabilities[1] for w in found] == [w.probabilities[1] for w in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.probabilities[0] == pytest.approx(other.probabilities[0], abs=0.25)


def test_stream_probabilities_equal_file_probabilities(tagger, tmp_path, noise):
    sf.write(tmp_path / "a.wav", noise, RATE, subtype="FLOAT")
    (wanted,) = tagger.tag(tmp_path / "a.wav")
    (found,) = tagger.stream(np.array_split(noise, 7), RATE)
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-6)
    with pytest.raises(BadAudio, match="NaN"):
        list(tagger.stream([noise, np.full(5, np.nan)], RATE))


def test_stream_of_a_day_needs_constant_memory(monkeypatch, tagger):
    monkeypatch.setattr(Tagger, "_predict", lambda self, clips, rate, contexts: (np.zeros((1, 37)), {}))
    rate, block = 1000, np.zeros(500, np.float32)
    tracemalloc.start()
    count = sum(1 for _ in tagger.stream((block for _ in range(24 * 3600 * 2)), rate))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 24 * 720 - 1
    assert peak < 2**20


def test_listen_reads_standard_input(tagger, tmp_path, noise):
    """Raw samples give a line for each label above the threshold."""
    folder = tmp_path / "models" / "cnn"
    torch.manual_seed(0)
    save_network(
        folder,
        SavedNetwork(CNN(ALONE, 37), "cnn", ALONE, list(tagger.taxonomy.labels), tagger.system.metadata),
    )
    raw = (noise * 2**15).clip(-(2**15), 2**15 - 1).astype("<i2").tobytes() + b"x"
    words = ["listen", "--system", "cnn", "--threshold", "0"]
    code, output, errors = run_ust(words, tmp_path, stdin=raw)
    assert code == 0, errors
    rows = list(csv.DictReader(io.StringIO(output)))
    assert [row["label"] for row in rows] == list(tagger.taxonomy.labels)
    found = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(found, tagger.predict(noise, RATE), atol=1e-3)
    code, _, errors = run_ust(words, tmp_path)
    assert code == 1
    assert "no samples arrived" in errors


def test_listen_quotes_labels_with_commas(tagger, noise, monkeypatch, capsysbinary):
    labels = ("1_Speech, of a man", *tagger.taxonomy.coarse[1:])
    monkeypatch.setattr(tagger, "taxonomy", replace(tagger.taxonomy, coarse=labels))
    monkeypatch.setattr(listen, "load_tagger", lambda _: (None, tagger, None))
    monkeypatch.setattr(listen, "_standard_input", lambda _: [noise[:, None]])
    listen.main(argv=["--threshold", "0"])
    rows = list(csv.reader(io.StringIO(capsysbinary.readouterr().out.decode())))
    assert {len(row) for row in rows} == {4}
    assert rows[1][2] == "1_Speech, of a man"


def test_predictions_are_invariant_to_rate_and_channels(tagger, noise):
    mono = tagger.predict(noise, RATE)
    np.testing.assert_allclose(tagger.predict(np.stack([noise, noise], axis=1), RATE), mono, atol=1e-4)
    tone = np.sin(2 * np.pi * 440 * np.arange(480_000) / 48_000).astype(np.float32)
    same = np.sin(2 * np.pi * 440 * np.arange(441_000) / RATE).astype(np.float32)
    np.testing.assert_allclose(tagger.predict(tone, 48_000), tagger.predict(same, RATE), atol=0.05)


def test_silence_has_no_tags(tagger):
    assert not tagger.predict(np.zeros(RATE), RATE).any()


def test_memory_is_independent_of_duration(tagger, tmp_path):
    rng = np.random.default_rng(0)
    tagger.predict(np.ones(80_000), 8000)  # loads what stays
    peaks = []
    for minutes in (1, 60):
        with sf.SoundFile(tmp_path / "long.flac", "w", 8000, 1) as file:
            for _ in range(minutes):
                file.write((0.1 * rng.standard_normal(60 * 8000)).astype(np.float32))
        tracemalloc.start()  # knows NumPy's arrays: samples, not networks
        assert len(list(islice(tagger.tag(tmp_path / "long.flac", hop=10), 4))) == 4
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize(("window", "hop"), [(11, 5), (0, 5), (10, 0), (5, 6)])
def test_hop_out_of_range_is_refused(tagger, tmp_path, window, hop):
    with pytest.raises(UserError, match="should be more than 0"):
        next(tagger.tag(tmp_path / "a.wav", window=window, hop=hop))


@pytest.mark.parametrize("content", [b"", b"no sound", None, "nan"])
def test_bad_recording_is_named(tagger, tmp_path, content):
    path = tmp_path / "bad.wav"
    if content == "nan":
        sf.write(path, np.full(1000, np.nan), RATE, subtype="FLOAT")
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(BadAudio, match=r"bad\.wav"):
        list(tagger.tag(path))


@pytest.fixture
def tagged(taxonomy):
    """Three windows: an engine in the first two, and a faint dog in all."""
    windows = []
    for index, engine in enumerate((0.9, 0.6, 0.1)):
        p = np.zeros(37, np.float32)
        p[0], p[8], p[7] = engine, engine / 2, 0.2
        windows.append(Window(5.0 * index, 5.0 * index + 10, p))
    return {"street.wav": windows}


def test_tags_table_lists_likeliest_labels(tagged, taxonomy):
    lines = tagging.tags_table(tagged, taxonomy, 0.45).splitlines()
    assert lines[0].startswith("street.wav  0:20.0, 3 windows")
    assert lines[1].split() == ["✓", "engine", "0.90", "██████████████████", "▇▅▁"]
    assert lines[2].split()[:3] == ["✓", "small-sounding-engine", "0.45"]
    assert lines[2].startswith("✓   ")
    assert lines[3].split()[0] == "dog"
    assert len(lines) == 10


def test_csv_has_the_submission_layout(tagged, taxonomy, tmp_path):
    from ust.evaluation.predictions import read_predictions

    one = {"street.wav": tagged["street.wav"][:1]}
    (tmp_path / "p.csv").write_text(tagging.submission_csv(one, taxonomy))
    found, missing = read_predictions(tmp_path / "p.csv", ["street.wav"], taxonomy)
    assert not missing
    np.testing.assert_allclose(found.to_numpy()[0], one["street.wav"][0].probabilities, atol=1e-6)
    rows = list(csv.DictReader(io.StringIO(tagging.submission_csv(tagged, taxonomy))))
    assert [row["start"] for row in rows] == ["0.000", "5.000", "10.000"]
    assert rows[1]["1_engine"] == "0.600000"


def test_json_has_windows_and_present_labels(tagged, taxonomy):
    (found,) = json.loads(tagging.tags_json(tagged, taxonomy, 0.45))
    assert found["audio_filename"] == "street.wav"
    assert found["windows"][2]["probabilities"]["8_dog"] == 0.2
    assert list(found["windows"][0]["probabilities"]) == list(taxonomy.labels)
    present = [window["present"] for window in found["windows"]]
    assert present == [["1_engine", "1-1_small-sounding-engine"], ["1_engine"], []]


def test_audacity_labels_are_intervals_above_the_threshold(tagged, taxonomy):
    text = tagging.audacity_labels(tagged["street.wav"], taxonomy, 0.3)
    assert text.splitlines() == [
        "0.000000\t15.000000\t1-1_small-sounding-engine 0.45",
        "0.000000\t15.000000\t1_engine 0.90",
    ]


def test_thresholds_are_per_label(tagged, taxonomy):
    """The thresholds stored by training are 0.7 for engine and 0.15 for dog."""
    thresholds = np.full(37, 0.5)
    thresholds[[0, 7]] = 0.7, 0.15
    lines = tagging.tags_table(tagged, taxonomy, thresholds).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("✓")] == ["engine", "dog"]
    text = tagging.audacity_labels(tagged["street.wav"], taxonomy, thresholds)
    assert text.splitlines() == ["0.000000\t10.000000\t1_engine 0.90", "0.000000\t20.000000\t8_dog 0.20"]
    stored = {"thresholds": {"1_engine": 0.7}}
    tagger = Tagger(FlatSystem(torch.nn.Identity(), list(taxonomy.labels), taxonomy, stored), {})
    assert tagger.thresholds.tolist() == [0.7, *[0.5] * 36]


def test_custom_classes_have_their_own_names(tagged):
    own = Taxonomy(("1_Engine idling", "2_tram"), ("2-1_tram_bell",), (1,))
    windows = [Window(0.0, 10.0, np.array([0.9, 0.2, 0.6], np.float32))]
    assert tagging.audacity_labels(windows, own, 0.5) == (
        "0.000000\t10.000000\tEngine idling 0.90\n0.000000\t10.000000\ttram_bell 0.60\n"
    )
    (found,) = json.loads(tagging.tags_json({"a.wav": windows}, own, 0.5))
    assert found["windows"][0]["present"] == ["Engine idling", "tram_bell"]
    header, row = csv.reader(io.StringIO(tagging.submission_csv({"a.wav": windows}, own)))
    assert header == ["audio_filename", "tram_bell", "Engine idling", "tram"]
    assert row == ["a.wav", "0.600000", "0.900000", "0.200000"]
    same = Taxonomy(("1_tram",), ("1-1_tram",), (0,))
    assert same.names == same.labels


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"data_source": "synthetic", "features": {"vggish": {"weights": "random"}, "logmel": {}}},
         "trained on the synthetic city, with random VGGish weights: its tags mean nothing on real sound"),
        ({"features": {"mn": {"weights": "random"}}},
         "with random EfficientAT weights: its tags mean nothing on real sound"),
        ({"data_source": "local", "features": {"mn": {"weights": "mn04_as"}}}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_systems_of_synthetic_sound_or_random_weights_carry_a_warning(taxonomy, metadata, wanted):
    system = FlatSystem(torch.nn.Identity(), list(taxonomy.labels), taxonomy, metadata)
    assert Tagger(system, {}).warning == wanted


@pytest.mark.parametrize("value", ["50", "-0.1", "high"])
def test_threshold_must_be_a_probability(value):
    with pytest.raises(UserError, match=f"--threshold: is {value}, should be a probability from 0 to 1"):
        main(argv=["a.wav", f"--threshold={value}"])


class TestPicture:
    def test_tone_appears_at_its_time_and_frequency(self, tmp_path):
        t = np.arange(2 * RATE) / RATE
        tone = np.where(t < 1, np.sin(2 * np.pi * 1000 * t), np.sin(2 * np.pi * 8000 * t))
        sf.write(tmp_path / "a.wav", 0.5 * tone, RATE)
        db, rate = tag_figure.spectrogram(tmp_path / "a.wav", 2.0)
        assert (rate, db.max()) == (RATE, 0)
        bands = librosa.mel_frequencies(tag_figure.BANDS + 2, fmax=RATE / 2)[1:-1]
        for columns, wanted in ((slice(2, 15), 1000), (slice(25, 40), 8000)):
            found = bands[db[:, columns].mean(axis=1).argmax()]
            assert found == pytest.approx(wanted, rel=0.06)

    def test_silence_is_dark(self, tmp_path):
        sf.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
        db, _ = tag_figure.spectrogram(tmp_path / "a.wav", 1.0)
        assert db == pytest.approx(np.full(db.shape, -tag_figure.RANGE_DB))

    def test_long_recording_has_the_same_number_of_columns(self, tmp_path):
        sf.write(tmp_path / "a.flac", 0.1 * np.random.default_rng(0).standard_normal(8000 * 600), 8000)
        db, _ = tag_figure.spectrogram(tmp_path / "a.flac", 600.0)
        assert db.shape == (tag_figure.BANDS, tag_figure.COLUMNS)
        assert db.std() < 2  # noise is as loud throughout

    def test_top_tags_include_the_likeliest_fine_label(self, taxonomy):
        p = np.zeros(37)
        p[[0, 4, 7]] = 0.5, 0.9, 0.7
        p[8 + 1], p[8 + 2] = 0.2, 0.4
        found = tag_figure.top_tags(p, taxonomy)
        assert [text.split(" ")[0] for text, _ in found[:3]] == ["alert-signal", "dog", "engine"]
        assert found[2:] == [("engine (large-sounding-engine 0.40)", 0.5)]  # and none of 0
        assert len(tag_figure.top_tags(np.full(37, 0.01), taxonomy)) == tag_figure.TAGS
        p[0], p[8 + 1], p[8 + 2] = 0.009, 0, 0
        assert [text.split(" ")[0] for text, _ in tag_figure.top_tags(p, taxonomy)] == ["alert-signal", "dog"]
        assert tag_figure.top_tags(np.array([0.5, *[0.0] * 36]), taxonomy) == [("engine", 0.5)]

    def test_silence_has_no_tags(self, tmp_path, taxonomy):
        sf.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
        tagged = {"a.wav": [Window(0.0, 1.0, np.zeros(37, np.float32))]}
        _, bars = tag_figure.draw_tags({"a.wav": tmp_path / "a.wav"}, tagged, taxonomy).axes
        assert [text.get_text() for text in bars.texts] == ["no tags"]

    def test_names_are_not_parsed_as_math_and_figures_are_deterministic(self, tmp_path, noise, taxonomy):
        names = ["$x^2$.wav", "b.wav"]
        for name in names:
            sf.write(tmp_path / name, noise, RATE)
        tagged = {name: [Window(0.0, 10.0, np.full(37, 0.3))] for name in names}
        paths = {name: tmp_path / name for name in names}
        for out in ("one.png", "two.png"):
            tag_figure.draw_tags(paths, tagged, taxonomy).savefig(tmp_path / out, metadata={"Software": None})
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
        many = dict.fromkeys(map(str, range(51)), tagged["b.wav"])
        with pytest.raises(UserError, match="at most 50 recordings, these are 51"):
            tag_figure.draw_tags(paths, many, taxonomy)

    def test_axes_are_labelled_in_hertz_and_tags_fit_their_box(self, tmp_path, noise):
        sf.write(tmp_path / "a.wav", noise, RATE)
        own = Taxonomy(("1_tram", "2_" + "a very long name of a class " * 5), (), ())
        tagged = {"a.wav": [Window(0.0, 10.0, np.array([0.4, 0.9], np.float32))]}
        figure = tag_figure.draw_tags({"a.wav": tmp_path / "a.wav"}, tagged, own, warning="made up")
        figure.draw_without_rendering()
        spectrogram, bars = figure.axes
        assert [tick.get_text() for tick in spectrogram.get_yticklabels()] == [
            "250 Hz", "1 kHz", "4 kHz", "16 kHz",
        ]  # fmt: skip
        place = librosa.hz_to_mel(4000) / librosa.hz_to_mel(RATE / 2) * tag_figure.BANDS
        assert spectrogram.get_yticks()[2] == pytest.approx(place)
        assert all(text.get_window_extent().x1 <= bars.get_window_extent().x1 for text in bars.texts)
        assert [text.get_text().endswith("…") for text in bars.texts] == [True, False]
        assert "made up" in figure.get_suptitle()


def test_png_format_needs_an_output_file():
    with pytest.raises(UserError, match=r"--out FILE\.png"):
        main(argv=["a.wav", "--format", "png"])
    with pytest.raises(UserError, match=r"--out is tags\.pdf, should end with \.png"):
        main(argv=["a.wav", "--format", "png", "--out", "tags.pdf"])


def test_recordings_are_found_and_named(tmp_path):
    for name in ("a.wav", "b/c.FLAC", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(collect_recordings([tmp_path])) == ["a.wav", "b/c.FLAC"]
    assert collect_recordings([tmp_path / "a.wav"]) == {"a.wav": tmp_path / "a.wav"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no recordings"):
        collect_recordings([tmp_path / "empty"])


def test_missing_recording_is_named(tagger, tmp_path):
    with pytest.raises(BadAudio, match=r"nowhere\.wav: no such"):
        list(tagger.tag(tmp_path / "nowhere.wav"))


@pytest.fixture
def days(tmp_path):
    """Two folders with a recording of the same name, and one recording that only the second has."""
    for index, name in enumerate(("site_a/1.wav", "site_b/1.wav", "site_b/2.wav")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sf.write(tmp_path / name, 0.1 * np.random.default_rng(index).standard_normal(RATE), RATE)
    return tmp_path


def test_recordings_with_equal_names_are_all_listed(days):
    wanted = {name: days / name for name in ("site_a/1.wav", "site_b/1.wav", "site_b/2.wav")}
    assert collect_recordings([days / "site_a", days / "site_b"]) == wanted
    assert collect_recordings([days / "site_a" / "1.wav", days / "site_b"]) == wanted
    assert collect_recordings([days]) == wanted
    assert list(collect_recordings([days / "site_a", days / "site_b" / "2.wav"])) == ["1.wav", "2.wav"]
    (days / "deep" / "site_a").mkdir(parents=True)
    shutil.copy(days / "site_a" / "1.wav", days / "deep" / "site_a")
    found = collect_recordings([days / "deep" / ".." / "site_a", days / "deep" / "site_a"])
    assert list(found) == ["site_a/1.wav", "deep/site_a/1.wav"]


def test_a_recording_given_twice_is_tagged_once(days, monkeypatch):
    monkeypatch.chdir(days)
    (days / "link").symlink_to(days / "site_b")
    site = days / "site_b"
    twice = (site, site, Path("site_b"), site / "1.wav", days / "site_a" / ".." / "site_b", days / "link")
    assert collect_recordings(twice) == {"1.wav": site / "1.wav", "2.wav": site / "2.wav"}


def run_tag(tagger, monkeypatch, *words):
    """Run the command with a given tagger."""
    monkeypatch.setattr(tag_command, "load_tagger", lambda args: ("cnn", tagger, 1))
    main(argv=[str(word) for word in words])


@pytest.mark.parametrize("format", ["table", "csv", "json", "audacity"])
def test_unreadable_files_do_not_stop_the_others(tagger, days, monkeypatch, format):
    """Raw samples are listed, and a name that is not UTF-8 is escaped."""
    (days / "site_b" / "dump.raw").write_bytes(bytes(64_000))
    (days / "site_b" / "2.wav").rename(days / "site_b" / os.fsdecode(b"stra\xdfe.wav"))
    out = days / "out"
    with pytest.raises(UserError) as error:
        run_tag(tagger, monkeypatch, days / "site_b", "--format", format, "--out", out)
    assert "1 of 3 recordings cannot be tagged" in str(error.value)
    assert "dump.raw: a .raw file does not tell its rate" in str(error.value)
    if format == "audacity":
        assert sorted(path.name for path in out.iterdir()) == ["1.wav.txt", "stra\\xdfe.wav.txt"]
    elif format == "json":
        assert [each["audio_filename"] for each in json.loads(out.read_text("utf-8"))] == [
            "1.wav", "stra\\xdfe.wav"
        ]  # fmt: skip
    else:
        assert "stra\\xdfe.wav" in out.read_text("utf-8")


def test_a_single_bad_recording_gives_its_reason_alone(tagger, tmp_path, monkeypatch):
    path = tmp_path / "readme.wav"
    path.write_text("no sound")
    with pytest.raises(UserError) as error:
        run_tag(tagger, monkeypatch, path)
    with pytest.raises(BadAudio) as reason:
        list(tagger.tag(path))
    assert str(error.value) == str(reason.value)


def test_an_incomplete_recording_is_tagged_with_one_warning(tagger, days, caplog):
    path = days / "site_a" / "1.wav"
    path.write_bytes(path.read_bytes()[:RATE])
    (window,) = tagger.tag(path)
    assert window.end == pytest.approx(0.5, abs=1e-3)
    assert [record.message for record in caplog.records] == [f"{path}: incomplete: read 0.5 s of 1.0 s"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_output_is_escaped_for_the_terminal_encoding(monkeypatch, encoding):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    escape_output()
    for stream in streams:
        stream.write("ж ß █▏▃ " + os.fsdecode(b"\xdf") + "…")
    wanted = {"utf-8": "ж ß █▏▃ \\xdf…", "ascii": "\\u0436 \\xdf ### \\xdf..."}
    wanted |= {"latin-1": "\\u0436 ß ### \\xdf...", "cp1252": "\\u0436 ß ### \\xdf…"}
    for stream in streams:
        assert stream.buffer.getvalue().decode(encoding) == wanted[encoding]


def test_find_model_resolves_names_and_folders(tmp_path, monkeypatch):
    for name in ("cnn_vggish/coarse", "hierarchical"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.json").touch()
    rows = YAML(typ="safe").load(ROOT / "params.yaml")["checkpoints"]
    names = {name: row["model"] for name, row in rows.items()}
    assert find_model(tmp_path, "cnn_vggish_coarse", names) == tmp_path / "cnn_vggish" / "coarse"
    assert find_model(tmp_path, "cnn_vggish/coarse", {}) == tmp_path / "cnn_vggish" / "coarse"
    assert find_model(tmp_path, "hierarchical", names) == tmp_path / "hierarchical"
    monkeypatch.chdir(tmp_path)
    assert find_model(Path("models"), "cnn_vggish/coarse", {}) == Path("cnn_vggish/coarse")  # not in models
    with pytest.raises(UserError, match="there are cnn_vggish_coarse, hierarchical"):
        find_model(tmp_path, "forest", names)
    (tmp_path / ".cnn_vggish_8.partial" / "coarse").mkdir(parents=True)
    (tmp_path / ".cnn_vggish_8.partial" / "coarse" / "model.json").touch()
    (tmp_path / "mine" / "fine").mkdir(parents=True)
    (tmp_path / "mine" / "fine" / "model.json").touch()
    with pytest.raises(UserError, match="did you mean hierarchical") as error:
        find_model(tmp_path, "hierarchicall", names)
    assert str(error.value).endswith("there are cnn_vggish_coarse, hierarchical, mine/fine")


def test_other_vggish_weights_are_refused(tmp_path, taxonomy):
    vggish = {"kind": "vggish", "sha256": "0", "final_relu": True, "precision": "float32"}
    metadata = {"taxonomy": asdict(taxonomy), "inputs": {"logmel": "logmel", "vggish": "vggish"}}
    metadata["features"] = {"logmel": {"kind": "logmel", **LOGMEL}, "vggish": vggish}
    saved = SavedNetwork(CNNVGGish(CONFIG, 37), "cnn_vggish", CONFIG, list(taxonomy.labels), metadata)
    save_network(tmp_path / "cnn", saved)
    with pytest.raises(UserError, match="the stage weights@vggish makes it"):
        Tagger.load(tmp_path / "cnn")
    (tmp_path / "pretrained" / "vggish").mkdir(parents=True)
    (tmp_path / "pretrained" / "vggish" / "network.json").write_text('{"sha256": "1"}')
    with pytest.raises(UserError, match="not the vggish weights"):
        Tagger.load(tmp_path / "cnn")
