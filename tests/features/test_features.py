"""Log-mel spectrograms and augmentation, compared with their definitions, and feature files."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import librosa
import numpy as np
import pytest
from conftest import RATE, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ust.audio.augmentation import (
    PlannedVariant,
    add_noise,
    augment,
    change_volume,
    coloured_noise,
    impulse_response,
    is_selected,
    pitch_shift,
    simulate_sensor,
    traffic_noise,
)
from ust.features.logmel import logmel
from ust.features.store import (
    Row,
    find_rows,
    open_feature_files,
    open_features,
    read_embeddings,
    write_features,
)
from ust.util.errors import UserError

DEFAULTS = {"sample_rate": RATE, "n_fft": 2048, "hop_length": 512, "n_mels": 128}


def slow_logmel(samples):
    """Compute the definition: centred frames, periodic Hann, power, Slaney mel, dB below the maximum."""
    padded = np.pad(samples.astype(float), 1024)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    mel = lambda f: f / (200 / 3) if f < 1000 else 15 + np.log(f / 1000) / (np.log(6.4) / 27)  # noqa: E731
    hertz = lambda m: m * 200 / 3 if m < 15 else 1000 * np.exp((m - 15) * np.log(6.4) / 27)  # noqa: E731
    edges = [hertz(m) for m in np.linspace(0, mel(RATE / 2), 130)]
    bins = np.arange(1025) * RATE / 2048
    columns = []
    for start in range(0, len(padded) - 2047, 512):
        power = np.abs(np.fft.rfft(padded[start : start + 2048] * window)) ** 2
        column = []
        for low, centre, high in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
            triangle = np.clip(
                np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0, None
            )
            column.append((triangle * 2 / (high - low)) @ power)
        columns.append(column)
    power = np.array(columns).T
    decibel = 10 * np.log10(np.maximum(power, 1e-10) / power.max())
    return np.maximum(decibel, -80)


def test_logmel_matches_definition(noise):
    short = noise[:20_000] * np.linspace(0, 1, 20_000, dtype=np.float32)
    np.testing.assert_allclose(logmel(short, **DEFAULTS), slow_logmel(short), atol=2e-3)


SOUNDS = {
    "noise": lambda noise: noise,
    "very soft": lambda noise: noise * np.float32(1e-5),
    "silence": np.zeros_like,
    "a tone": lambda noise: np.sin(np.arange(len(noise)) * 0.1).astype(np.float32),
    "a click": lambda noise: (np.arange(len(noise)) == 1000).astype(np.float32),
    "short": lambda noise: noise[:700],
}


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize(("n_fft", "hop", "bands"), [(2048, 512, 128), (1024, 400, 64)])
def test_logmel_matches_librosa(noise, name, n_fft, hop, bands):
    sound = SOUNDS[name](noise)
    found = logmel(sound, sample_rate=RATE, n_fft=n_fft, hop_length=hop, n_mels=bands)
    power = librosa.feature.melspectrogram(y=sound, sr=RATE, n_fft=n_fft, hop_length=hop, n_mels=bands)
    wanted = librosa.power_to_db(power, ref=np.max)
    loud = wanted > -60  # librosa transforms in double precision, which shows just above the floor of -80 dB
    np.testing.assert_allclose(found[loud], wanted[loud], atol=1e-4, rtol=0)
    np.testing.assert_allclose(found, wanted, atol=3e-3, rtol=0)


def test_float16_logmel_is_exact_to_a_25th_of_a_decibel(noise):
    found = logmel(noise * np.linspace(0, 1, len(noise), dtype=np.float32), **DEFAULTS)
    assert np.abs(found - found.astype(np.float16)).max() < 0.04


def test_volume_does_not_change_logmel(noise):
    louder = change_volume(noise, RATE, gain_db=10, rng=np.random.default_rng(3)).astype(np.float32)
    assert not np.allclose(louder, noise)
    np.testing.assert_allclose(logmel(louder, **DEFAULTS), logmel(noise, **DEFAULTS), atol=1e-3)


def test_volume_never_clips():
    samples = np.array([0.9, -0.5])
    gains = [
        change_volume(samples, RATE, gain_db=12, rng=np.random.default_rng(seed))[0] / 0.9
        for seed in range(200)
    ]
    assert max(gains) <= 1 / 0.9 + 1e-9
    assert min(gains) >= 10 ** (-12 / 20)


@pytest.mark.parametrize(("colour", "slope"), [("white", 0), ("pink", -10), ("brown", -20)])
def test_colored_noise_has_its_spectral_slope(colour, slope):
    """The slope is in dB of power per decade of frequency."""
    found = coloured_noise(2**18, colour, np.random.default_rng(0))
    assert np.sqrt(np.mean(found**2)) == pytest.approx(1)
    power = np.abs(np.fft.rfft(found)) ** 2
    bands = [(10 ** (k / 4), 10 ** ((k + 1) / 4)) for k in range(8, 19)]
    levels = [10 * np.log10(power[int(low) : int(high)].mean()) for low, high in bands]
    centres = [np.log10(np.sqrt(low * high)) for low, high in bands]
    assert np.polyfit(centres, levels, 1)[0] == pytest.approx(slope, abs=0.7)


def test_noise_has_the_given_level():
    samples = 0.1 * np.sin(np.arange(RATE))
    out = add_noise(samples, RATE, colours=["pink"], level_db=[-20, -20], rng=np.random.default_rng(0))
    added = out - samples
    ratio = 20 * np.log10(np.sqrt(np.mean(added**2)) / np.sqrt(np.mean(samples**2)))
    assert ratio == pytest.approx(-20, abs=1e-6)


SENSOR = {
    "low_cut": 120.0,
    "high_cut": [4000.0, 4000.0],
    "reverberation": [0.5, 0.5],
    "snr_db": [100.0, 100.0],
    "gain_db": [-20.0, -20.0],
}


def level_db(samples):
    return 20 * np.log10(np.sqrt(np.mean(np.square(samples))))


def test_a_sensor_attenuates_sounds_outside_its_band():
    white = 0.01 * np.random.default_rng(0).standard_normal(4 * RATE)
    options = SENSOR | {"gain_db": [0.0, 0.0]}
    out = simulate_sensor(white, RATE, **options, rng=np.random.default_rng(1))
    power = np.abs(np.fft.rfft(out)) ** 2 / np.mean(np.abs(np.fft.rfft(white)) ** 2)
    hertz = np.fft.rfftfreq(len(out), 1 / RATE)
    within = power[(hertz > 200) & (hertz < 3000)].mean()
    assert within == pytest.approx(1, rel=0.05)  # reverberation keeps the energy
    for low, high in ((0, 60), (8000, 20_000)):
        assert power[(hertz >= low) & (hertz < high)].mean() < 0.003 * within


def test_sensor_gain_changes_the_level():
    samples = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    quiet, loud = (
        simulate_sensor(samples, RATE, **SENSOR | {"gain_db": [gain, gain]}, rng=np.random.default_rng(3))
        for gain in (-30.0, -10.0)
    )
    np.testing.assert_allclose(loud, 10 * quiet)


def test_a_sensor_never_clips():
    samples = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    out = simulate_sensor(samples, RATE, **SENSOR | {"gain_db": [40.0, 40.0]}, rng=np.random.default_rng(3))
    assert np.abs(out).max() == pytest.approx(1)


@pytest.mark.parametrize("snr", [0.0, 12.0])
def test_sensor_noise_has_the_drawn_ratio(snr):
    """The wide band passes all of the noise."""
    samples = 0.01 * np.random.default_rng(0).standard_normal(4 * RATE)
    wide = SENSOR | {"low_cut": 1.0, "high_cut": [22_000.0, 22_000.0], "gain_db": [0.0, 0.0]}
    noisy, clean = (
        simulate_sensor(samples, RATE, **wide | {"snr_db": [ratio, ratio]}, rng=np.random.default_rng(2))
        for ratio in (snr, 200.0)
    )
    assert level_db(clean) - level_db(noisy - clean) == pytest.approx(snr, abs=0.5)


def test_reverberation_decays_by_60_db_and_has_the_energy_of_the_direct_sound():
    response = impulse_response(0.4, RATE, np.random.default_rng(0))
    assert len(response) == round(0.4 * RATE)
    assert np.sum(response**2) == pytest.approx(1)
    assert response[0] ** 2 == pytest.approx(0.5)
    parts = np.array_split(response[1:], 20)
    slope = np.polyfit(np.arange(20) / 20, [level_db(part) for part in parts], 1)[0]
    assert slope == pytest.approx(-60, abs=1.5)


def test_traffic_noise_is_low_and_changes_its_level():
    noise = traffic_noise(20 * RATE, RATE, np.random.default_rng(0))
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    assert power[(hertz > 25) & (hertz < 500)].sum() > 0.8 * power.sum()
    assert np.ptp([level_db(part) for part in np.array_split(noise, 20)]) > 6


def test_pitch_shift_moves_a_tone_by_the_drawn_semitones():
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)
    steps = np.random.default_rng(5).uniform(-2, 2)
    shifted = pitch_shift(tone, RATE, semitones=2, rng=np.random.default_rng(5))
    assert len(shifted) == len(tone)
    peak = np.argmax(np.abs(np.fft.rfft(shifted * np.hanning(len(shifted))))) / 2
    assert 12 * np.log2(peak / 440) == pytest.approx(steps, abs=0.05)


def test_random_draws_depend_on_clip_and_variant(noise):
    def draw(variant="volume", clip="a.wav", seed=1):
        return augment(noise, RATE, PlannedVariant(clip, "volume", variant, {"gain_db": 10.0}, seed))

    np.testing.assert_array_equal(draw(), draw())
    for other in (draw(clip="b.wav"), draw(seed=2), draw(variant="volume_2")):
        assert not np.array_equal(draw(), other)


def test_proportion_of_clips_is_augmented():
    clips = [f"{i}.wav" for i in range(2000)]
    share = np.mean([is_selected(clip, variant="noise", proportion=0.2, seed=1) for clip in clips])
    assert share == pytest.approx(0.2, abs=0.03)
    assert all(is_selected(clip, variant="noise", proportion=1.0, seed=1) for clip in clips)
    assert not any(is_selected(clip, variant="noise", proportion=0.0, seed=1) for clip in clips)


def test_rows_are_sorted_by_clip_then_variant(tmp_path):
    for name in (
        "audio/train/b.wav",
        "audio/train/a.wav",
        "audio/validate/c.wav",
        "more/noise/train/b.wav.flac",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    rows = find_rows(tmp_path / "audio", tmp_path / "more")
    assert [(row.clip, row.variant, row.split) for row in rows] == [
        ("a.wav", "original", "train"),
        ("b.wav", "noise", "train"),
        ("b.wav", "original", "train"),
        ("c.wav", "original", "validate"),
    ]
    with pytest.raises(UserError, match="no audio files"):
        find_rows(tmp_path / "nowhere")


def test_feature_rows_are_read_in_any_order(feature_files):
    path, _ = feature_files([(f"{i}.wav", "original", "train") for i in range(9)])
    with h5py.File(path) as file:
        everything = file["logmel"][:]
        assert file["logmel"].chunks == (1, 128, 862)
    with open_features(path, "logmel") as features:
        order = np.array([7, 2, 2, 0, 8])
        np.testing.assert_array_equal(features[order], everything[order])
        assert features.clip[7] == "7.wav"


def test_equal_content_gives_equal_files_at_any_time(feature_files):
    keys = [(f"{i}.wav", "original", "train") for i in range(4)]
    first = [path.read_bytes() for path in feature_files(keys)]
    time.sleep(1.1)  # HDF5 counts in seconds
    assert first == [path.read_bytes() for path in feature_files(keys)]


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "other"])
def test_damaged_feature_file_is_named(feature_files, damage):
    path, other = feature_files([("a.wav", "original", "train")])
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("no HDF5")
    else:
        other.rename(path)
    with pytest.raises(UserError, match="stage extract@logmel"), open_features(path, "logmel"):
        pass


def test_feature_file_without_permission_is_reported_as_such(feature_files, monkeypatch):
    """Not as damaged, nor as no HDF5 file."""
    path, _ = feature_files([("a.wav", "original", "train")])

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(h5py, "File", refuse)
    with (
        pytest.raises(UserError, match=r"logmel\.h5: cannot be read: permission denied"),
        open_features(path, "logmel"),
    ):
        pass


@pytest.mark.parametrize("network", [{"network": "efficientat"}, {}])
def test_read_embeddings_refuses_spectrograms(tmp_path, network):
    """The attributes of the file decide; frames give their mean and maximum."""
    values = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    rows = [Row(f"{i}.wav", "original", "train", tmp_path) for i in range(3)]
    path = tmp_path / "mn.h5"
    write_features(path, "mn", rows, ["x"] * 3, values, shape=(4, 5), dtype="float32", attributes=network)
    if network:
        found = read_embeddings(tmp_path / "mn.h5")
        wanted = np.concatenate([values.mean(axis=1), values.max(axis=1)], axis=1)
        np.testing.assert_allclose(found.to_numpy(), wanted, rtol=1e-6)
        assert list(found.index) == ["0.wav", "1.wav", "2.wav"]
        return
    with pytest.raises(UserError, match=r"mn\.h5: is a spectrogram; this label rule needs an embedding"):
        read_embeddings(tmp_path / "mn.h5")


def test_cache_limit_covers_all_feature_files(feature_files):
    """Five rows of log-mels are cached first, then embeddings with the remaining memory."""
    logmel, _ = feature_files([(f"{i}.wav", "original", "train") for i in range(5)])
    of_logmel, of_vggish = 128 * 862 * 2, 10 * 128
    for size, wanted in ((3 * of_logmel + 2 * of_vggish, (3, 2)), (9 * of_logmel, (5, 5)), (0, (0, 0))):
        names = {"logmel": "logmel", "vggish": "vggish"}
        with open_feature_files(logmel.parent, names, cache_gib=size / 2**30) as found:
            assert tuple(len(file.cached) for file in found.values()) == wanted
            assert sum(file.cached.nbytes for file in found.values()) <= size


NO_LOCKS = """
#include <errno.h>
int flock(int descriptor, int operation) { errno = ENOLCK; return -1; }
"""
WRITE_AND_READ = """
import sys
from pathlib import Path
import numpy as np
from ust.features.extraction import StoredValues
from ust.features.store import Row
from ust.features.store import open_features, write_features
from ust.util.errors import UserError
read, write = map(Path, sys.argv[1:])
row, value = Row("b.wav", "original", "train", Path("b")), np.zeros(3, np.float32)
try:
    with open_features(read, "mn") as file:
        print("read", *file.clip)
    print("kept", StoredValues(read, "mn", (3,), "float32").get("x") is not None)
    from ust.util import files
    files._lock = lambda path: __import__("filelock").SoftFileLock(f"{path}.lock")  # of ours, not HDF5's
    write_features(write, "mn", [row], ["y"], [value], shape=(3,), dtype="float32", attributes={})
    print("written", write.is_file())
except UserError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def no_locks(tmp_path_factory):
    """The environment of a process in which no file system supports locks."""
    if not shutil.which("gcc"):
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("locks")
    (folder / "locks.c").write_text(NO_LOCKS)
    command = ["gcc", "-shared", "-fPIC", "-o", folder / "locks.so", folder / "locks.c"]
    subprocess.run(command, check=True)
    return os.environ | {"LD_PRELOAD": str(folder / "locks.so"), "PYTHONPATH": str(ROOT)}


@pytest.mark.whole
@pytest.mark.parametrize("told", [None, "FALSE", "TRUE"])
def test_feature_files_need_no_file_locks(tmp_path, no_locks, told):
    """A missing lock must not be reported as damage."""
    row, value = Row("a.wav", "original", "train", Path("a")), np.zeros(3, np.float32)
    read = tmp_path / "mn.h5"
    write_features(read, "mn", [row], ["x"], [value], shape=(3,), dtype="float32", attributes={})
    environment = no_locks | ({"HDF5_USE_FILE_LOCKING": told} if told else {})
    done = subprocess.run(
        [sys.executable, "-c", WRITE_AND_READ, read, tmp_path / "new.h5"], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if told == "TRUE":
        assert "mn.h5: cannot be locked, its file system has no file locks" in done.stdout
        assert "HDF5_USE_FILE_LOCKING=FALSE" in done.stdout
        assert "damaged" not in done.stdout
    else:
        assert done.stdout.splitlines() == ["read a.wav", "kept True", "written True"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(cached=st.integers(0, 6), indices=st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_cached_rows_equal_rows_from_disk(feature_files, cached, indices):
    logmel, _ = feature_files([(f"{i}.wav", "original", "train") for i in range(5)])
    row_gib = 128 * 862 * 2 / 2**30
    with (
        open_features(logmel, "logmel") as disk,
        open_features(logmel, "logmel", cache_gib=cached * row_gib) as memory,
    ):
        assert len(memory.cached) == min(cached, 5)
        found = memory[np.array(indices)]
        np.testing.assert_array_equal(found, disk[np.array(indices)])
        np.testing.assert_array_equal(found, disk.values[:][indices])
        assert found.dtype == np.float16
