"""Whatever a file holds, reading it gives a standard clip or a reason."""

import struct

import numpy as np
import pytest
import soundfile as sf
from conftest import RATE

from ust.audio.recordings import BadAudio, fit_length, load_audio, read_recording


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.wav", {"subtype": "PCM_16"}, 1e-4),
        ("a.wav", {"subtype": "PCM_24"}, 1e-6),
        ("a.wav", {"subtype": "DOUBLE"}, 1e-6),
        ("a.wav", {"subtype": "PCM_16", "endian": "BIG"}, 1e-4),
        ("a.flac", {}, 1e-4),
        ("a.ogg", {}, 0.06),
    ],
)
def test_formats(wav, noise, name, options, tolerance):
    clip = load_audio(wav(name, **options), RATE)
    assert clip.dtype == np.float32
    assert np.sqrt(np.mean((clip - noise) ** 2)) < tolerance


def test_a_file_is_known_by_its_content_not_its_name(wav, noise):
    path = wav("a.flac").rename(wav("b.wav").with_name("c.wav"))
    np.testing.assert_allclose(load_audio(path, RATE), noise, atol=1e-4)


def test_channels_are_averaged(wav, noise):
    path = wav(samples=np.stack([noise, -noise / 2], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(load_audio(path, RATE), noise / 4, atol=1e-7)
    assert read_recording(path).conversions == ["more than one channel"]


@pytest.mark.parametrize(("seconds", "said"), [(2, "shorter than 10 s"), (11, "longer than 10 s")])
def test_other_lengths_are_cut_or_padded(wav, seconds, said):
    samples = np.full(seconds * RATE, 0.5, np.float32)
    path = wav(samples=samples, subtype="FLOAT")
    clip = load_audio(path, RATE)
    assert clip.shape == (441_000,)
    assert clip.sum() == pytest.approx(min(seconds, 10) * RATE * 0.5)
    assert read_recording(path).conversions == [said]


def test_other_rates_are_resampled(wav):
    rate = 48_000
    tone = np.sin(2 * np.pi * 440 * np.arange(10 * rate) / rate).astype(np.float32)
    path = wav(samples=tone, rate=rate, subtype="FLOAT")
    wanted = np.sin(2 * np.pi * 440 * np.arange(10 * RATE) / RATE)
    np.testing.assert_allclose(load_audio(path, RATE)[500:-500], wanted[500:-500], atol=1e-3)
    assert read_recording(path).conversions == ["other sample rate"]


def test_a_standard_clip_needs_no_conversion(wav):
    assert read_recording(wav()).conversions == []


def truncated(path, share):
    """The first share of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def bad_files(tmp_path, wav, noise):
    """By what is wrong: a file, and what the message should say."""
    nan = noise.copy()
    nan[1000] = np.nan
    infinite = noise.copy()
    infinite[-1] = np.inf
    files = {name: tmp_path / name for name in ("empty.wav", "text.wav", "random.ogg")}
    files["empty.wav"].write_bytes(b"")
    files["text.wav"].write_text("this is no sound")
    files["random.ogg"].write_bytes(np.random.default_rng(0).bytes(5000))
    return {
        "missing": (tmp_path / "missing.wav", "no such file"),
        "empty": (files["empty.wav"], "the file is empty"),
        "text": (files["text.wav"], "cannot be decoded as audio"),
        "random": (files["random.ogg"], "cannot be decoded as audio"),
        "folder": (tmp_path, "cannot be decoded as audio"),
        "no-frames": (wav("none.wav", samples=np.zeros(0, np.float32)), "holds no samples"),
        "silent": (wav("silent.wav", samples=np.zeros(RATE, np.float32)), "is silent"),
        "nan": (wav("nan.wav", samples=nan, subtype="FLOAT"), "NaN or infinite"),
        "infinite": (wav("inf.wav", samples=infinite, subtype="DOUBLE"), "NaN or infinite"),
        "truncated-wav": (truncated(wav("t.wav"), 0.5), "truncated"),
        "truncated-rifx": (truncated(wav("x.wav", endian="BIG"), 0.5), "truncated"),
        "truncated-flac": (truncated(wav("t.flac"), 0.5), "truncated|cannot be decoded"),
        "truncated-ogg": (truncated(wav("t.ogg"), 0.5), "truncated"),
        "header-only": (truncated(wav("h.wav"), 0.00004), "cannot be decoded|truncated"),
    }


KINDS = "missing empty text random folder no-frames silent nan infinite truncated-wav truncated-rifx"


@pytest.mark.parametrize("what", [*KINDS.split(), "truncated-flac", "truncated-ogg", "header-only"])
def test_unusable_files_are_named_with_the_reason(tmp_path, wav, noise, what):
    path, reason = bad_files(tmp_path, wav, noise)[what]
    with pytest.raises(BadAudio, match=reason) as error:
        read_recording(path)
    assert str(path) in str(error.value)


def test_a_wav_of_unknown_length_is_read(wav, noise):
    """Programs that write to a pipe leave the lengths at their maximum."""
    path = wav(subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    np.testing.assert_allclose(load_audio(path, RATE), noise, atol=1e-4)


def test_fit_length():
    assert fit_length(np.ones(5), 1).tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert fit_length(np.arange(12), 1).tolist() == list(range(10))


def test_soundfile_opens_what_it_is_pinned_for():
    assert {"WAV", "FLAC", "OGG"} <= set(sf.available_formats())


def riff(samples, *, whole, data):
    """A WAV file of 16 bits whose two lengths are as given."""
    body = samples.astype("<i2").tobytes()
    header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", whole, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return header + b"LIST" + struct.pack("<I", 4) + b"odd!" + b"data" + struct.pack("<I", data) + body


@pytest.mark.parametrize(
    ("whole", "data"),
    [(None, None), (8, None), (-500, None), (10**6, None), (0xFFFFFFFF, 0xFFFFFFFF), (0, 0xFFFFFFFF),
     (0x7FFFFFFF, 0x7FFFFFFF)],
)  # fmt: skip
def test_an_oddly_written_wav_with_all_its_samples_is_read(tmp_path, whole, data):
    """The length of the whole may be wrong, and that of the samples left open, as by programs that stream."""
    samples = np.arange(1, 1001)
    body = 2 * len(samples)
    right = 4 + 24 + 12 + 8 + body
    total = right if whole is None else whole if whole in (0, 0xFFFFFFFF, 0x7FFFFFFF) else right + whole
    (tmp_path / "a.wav").write_bytes(riff(samples, whole=total, data=body if data is None else data))
    recording = read_recording(tmp_path / "a.wav")
    np.testing.assert_array_equal(recording.samples[:, 0] * 2**15, samples)


def test_a_wav_with_fewer_samples_than_it_promises_is_truncated(tmp_path):
    samples = np.arange(1, 1001)
    whole = riff(samples, whole=48 + 2000 - 8, data=2000)
    (tmp_path / "a.wav").write_bytes(whole[:-500])
    with pytest.raises(BadAudio, match="truncated"):
        read_recording(tmp_path / "a.wav")
