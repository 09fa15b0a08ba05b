"""Reading recordings: formats, damaged and incomplete files, and their errors."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile as sf
from conftest import RATE

from ust.audio.containers import Patch, PatchedFile
from ust.audio.recordings import (
    BadAudio,
    FlacSamples,
    flac_rate,
    load_audio,
    open_recording,
    read_recording,
    read_windows,
)


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
def test_read_recording_supports_each_format(wav, noise, name, options, tolerance):
    clip = load_audio(wav(name, **options), RATE)
    assert clip.dtype == np.float32
    assert np.sqrt(np.mean((clip - noise) ** 2)) < tolerance


def test_channels_are_averaged(wav, noise):
    path = wav(samples=np.stack([noise, -noise / 2], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(load_audio(path, RATE), noise / 4, atol=1e-7)
    assert read_recording(path).conversions == ["more than one channel"]


@pytest.mark.parametrize(("seconds", "said"), [(2, "shorter than 10 s"), (11, "longer than 10 s")])
def test_clips_are_cut_or_padded_to_length(wav, seconds, said):
    samples = np.linspace(0.1, 0.5, seconds * RATE, dtype=np.float32)
    path = wav(samples=samples, subtype="FLOAT")
    np.testing.assert_array_equal(
        load_audio(path, RATE), np.resize(np.append(samples, np.zeros(441_000)), 441_000)
    )
    assert read_recording(path).conversions == [said]


def test_clips_are_resampled(wav):
    rate = 48_000
    tone = np.sin(2 * np.pi * 440 * np.arange(10 * rate) / rate).astype(np.float32)
    path = wav(samples=tone, rate=rate, subtype="FLOAT")
    wanted = np.sin(2 * np.pi * 440 * np.arange(10 * RATE) / RATE)
    np.testing.assert_allclose(load_audio(path, RATE)[500:-500], wanted[500:-500], atol=1e-3)
    assert read_recording(path).conversions == ["other sample rate"]


def test_standard_clip_needs_no_conversion(wav):
    assert read_recording(wav()).conversions == []


def with_sample(noise, index, value):
    """Return the noise with one other sample."""
    samples = noise.copy()
    samples[index] = value
    return samples


DAMAGES = "missing empty text random folder no-frames silent nan infinite half-a-header header-only"


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path, wav, noise: None, "no such file"),
        (lambda path, wav, noise: path.touch(), "the file is empty"),
        (lambda path, wav, noise: path.write_text("this is no sound"), "cannot be decoded as audio"),
        (lambda path, wav, noise: path.write_bytes(noise.tobytes()[:5000]), "cannot be decoded as audio"),
        (lambda path, wav, noise: path.mkdir(), "cannot be read: Is a directory"),
        (lambda path, wav, noise: wav(samples=noise[:0]), "holds no samples"),
        (lambda path, wav, noise: wav(samples=0 * noise), "is silent"),
        (lambda path, wav, noise: wav(samples=with_sample(noise, 1000, np.nan), subtype="FLOAT"), "NaN or"),
        (lambda path, wav, noise: wav(samples=with_sample(noise, -1, np.inf), subtype="DOUBLE"), "NaN or"),
        (lambda path, wav, noise: path.write_bytes(wav().read_bytes()[:35]), "cannot be decoded"),
        (lambda path, wav, noise: path.write_bytes(wav().read_bytes()[:44]), "holds no samples"),
    ],
    ids=DAMAGES.split(),
)
def test_unusable_files_are_named_with_the_reason(tmp_path, wav, noise, write, reason):
    path = tmp_path / "clip.wav"
    write(path, wav, noise)
    with pytest.raises(BadAudio, match=f"{path}: .*{reason}"):
        read_recording(path)


def riff(samples, *, whole, data):
    """Return a 16-bit WAV file with the given lengths in its headers."""
    body = samples.astype("<i2").tobytes()
    header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", whole, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return header + b"LIST" + struct.pack("<I", 4) + b"odd!" + b"data" + struct.pack("<I", data) + body


@pytest.mark.parametrize(
    ("whole", "data"),
    [(2040, 2000), (2048, 2000), (1540, 2000), (10**6, 2000), (0xFFFFFFFF, 2000), (0xFFFFFFFF, 0xFFFFFFFF),
     (0, 0xFFFFFFFF), (0x7FFFFFFF, 0x7FFFFFFF)],
)  # fmt: skip
def test_odd_but_complete_wav_is_read(tmp_path, whole, data):
    """Streaming programs leave a wrong RIFF length or an open data length."""
    samples = np.arange(1, 1001)
    (tmp_path / "a.wav").write_bytes(riff(samples, whole=whole, data=data))
    recording = read_recording(tmp_path / "a.wav")
    np.testing.assert_array_equal(recording.samples * 2**15, samples)
    assert recording.warning is None


def test_wav_shorter_than_declared_is_read_to_its_end(tmp_path):
    samples = np.arange(1, 1001)
    whole = riff(samples, whole=48 + 2000 - 8, data=2000)
    (tmp_path / "a.wav").write_bytes(whole[:-500])
    recording = read_recording(tmp_path / "a.wav")
    np.testing.assert_array_equal(recording.samples * 2**15, samples[:750])
    assert recording.warning == f"{tmp_path / 'a.wav'}: incomplete: read 0.0170 s of 0.0227 s"


def encoded(samples, rate=16_000, **options):
    """Return the bytes of a sound file."""
    file = io.BytesIO()
    sf.write(file, samples, rate, **options)
    return file.getvalue()


def read_all(content, name="a"):
    """Return the samples, the sample rate and the warning of a file."""
    with open_recording(io.BytesIO(content), name) as file:
        return file.read(10**9), file.sample_rate, file.warning


SECONDS = 12
SOUND = np.round(3000 * np.random.default_rng(0).standard_normal(SECONDS * 16_000)) / 2**15
CONTAINERS = [
    ("WAV", {}), ("WAVEX", {}), ("RF64", {}), ("W64", {}), ("AIFF", {}), ("CAF", {}), ("AU", {}),
    ("FLAC", {}), ("WAV", {"endian": "BIG"}), ("AU", {"endian": "LITTLE"}), ("WAV", {"subtype": "MS_ADPCM"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), CONTAINERS)
def test_truncated_file_is_read_to_the_cut(kind, options):
    """Containers with a declared length give half of the samples and one warning with both lengths."""
    whole = encoded(SOUND, format=kind, **{"subtype": "PCM_16"} | options)
    wanted, _, warning = read_all(whole)
    assert warning is None
    assert len(wanted) == pytest.approx(len(SOUND), abs=500)  # ADPCM has whole blocks
    found, rate, warning = read_all(whole[: len(whole) // 2])
    assert 5.5 < len(found) / rate <= 6
    np.testing.assert_array_equal(found, wanted[: len(found)])
    promised = "11.9" if options.get("subtype") == "MS_ADPCM" else "12.0"  # by its bytes, in whole blocks
    assert warning == f"a: incomplete: read {len(found) / rate:.1f} s of {promised} s"
    warnings = []
    (*_, last) = read_windows(
        io.BytesIO(whole[: len(whole) // 2]), "a", window=2, hop=1, warn=warnings.append
    )
    assert last[1] == len(found) / rate
    assert warnings == [warning]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_truncated_ogg_is_read_to_the_last_complete_page(subtype):
    """Ogg declares no length; samples before the truncated page equal those of the complete file."""
    whole = encoded(SOUND, format="OGG", subtype=subtype)
    found, rate, warning = read_all(whole[: len(whole) // 2])
    assert 4 < len(found) / rate < 8
    np.testing.assert_allclose(found[:-2000], read_all(whole)[0][: len(found) - 2000], atol=1e-5)
    assert warning == f"a: incomplete: read {len(found) / rate:.1f} s, its end is missing"


def ogg_checksum(page):
    """Return the CRC-32 with polynomial 04c11db7 of a page whose checksum field is 0, bit by bit."""
    register = 0
    for byte in page:
        for bit in range(7, -1, -1):
            top = register >> 31 ^ byte >> bit & 1
            register = (register << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if top else 0)
    return register


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_without_end_of_stream_flag_is_read_completely(subtype):
    """Telephones write such files when a call ends; libsndfile alone refuses them for Opus."""
    whole = encoded(SOUND, format="OGG", subtype=subtype)
    page = bytearray(whole[whole.rfind(b"OggS") :])
    assert page[5] & 4
    page[5] &= ~4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", ogg_checksum(page))
    found, _, warning = read_all(whole[: -len(page)] + page)
    np.testing.assert_array_equal(found, read_all(whole)[0])
    assert warning is None


def mpeg_frame(content, at):
    """Return the length of an MPEG-1 layer III frame."""
    rates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    return 144_000 * rates[content[at + 2] >> 4] // 44_100 + (content[at + 2] >> 1 & 1)


@pytest.fixture(scope="module")
def mp3():
    """Ten seconds of near silence and ten of noise, whose length is guessed wrong from the bit rate."""
    noise = np.random.default_rng(0).standard_normal(10 * 44_100)
    file = io.BytesIO()
    with sf.SoundFile(
        file, "w", 44_100, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.1
    ) as out:
        out.write(1e-4 * noise)
        out.write(0.4 * noise)
    content = file.getvalue()
    assert content[0] == 0xFF
    assert {content.find(b"Xing") > 0, content.find(b"Info") > 0} == {True, False}
    return content


@pytest.mark.parametrize("tag", [b"", b"ID3\x03\0\0\0\0\x02\x01" + bytes(257)])
def test_mp3_without_declared_length_is_read_to_its_end(mp3, tag):
    bare = tag + mp3[mpeg_frame(mp3, 0) :]
    with sf.SoundFile(io.BytesIO(bare)) as file:
        assert file.frames < 15 * 44_100  # libsndfile's guess
    wanted, _, _ = read_all(mp3)
    found, rate, warning = read_all(bare)
    assert 20 <= len(found) / rate < 20.1
    assert warning is None
    late = len(found) - len(wanted)  # the encoder's delay, which the info frame tells
    best = min(range(late + 1), key=lambda by: np.abs(found[by:][: len(wanted)] - wanted).max())
    np.testing.assert_allclose(found[best:][: len(wanted)], wanted, atol=1e-3)


def test_truncated_mp3_is_reported_as_incomplete(mp3):
    found, rate, warning = read_all(mp3[: len(mp3) // 2])
    assert 10 < len(found) / rate < 18
    assert warning == f"a: incomplete: read {len(found) / rate:.1f} s of 20.0 s"
    assert read_all(mp3)[2] is None


@pytest.mark.parametrize("whole", [4088, 0, 8, 36])
def test_wav_with_declared_length_0_is_read(whole):
    """macOS and several recorders write this header when they are interrupted."""
    samples = np.arange(1, 1001)
    with open_recording(io.BytesIO(riff(samples, whole=whole, data=0)), "a.wav") as file:
        np.testing.assert_array_equal(file.read(5000) * 2**15, samples)
        assert file.warning == "a.wav: unfinished: read 0.0227 s, its header promises 0.0000 s"


@pytest.mark.parametrize("behind", [b"", b"LIST\x04\0\0\0INFO"])
def test_empty_wav_is_refused(behind):
    content = riff(np.zeros(0), whole=40, data=0) + behind
    with pytest.raises(BadAudio, match="a: holds no samples"):
        read_all(content)


def test_flac_with_absurd_length_allocates_no_memory():
    """The header declares 68 billion samples."""
    content = bytearray(encoded(SOUND, format="FLAC"))
    tracemalloc.start()
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    found, rate, warning = read_all(bytes(content))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**26
    np.testing.assert_array_equal(found, SOUND.astype(np.float32))
    assert warning == f"a: incomplete: read 12.0 s of {(2**36 - 1) / rate:.1f} s"
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    assert read_all(bytes(content))[2] is None


@pytest.mark.parametrize("rate", [0x7FFFFFFF, 268_451_456, 1, 999, 1_000_001])
def test_absurd_sample_rate_is_refused_before_allocation(tmp_path, rate):
    content = bytearray(riff(np.arange(1, 1001), whole=2040, data=2000))
    content[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(BadAudio, match=rf"a\.wav: its header says a sample rate of {rate} Hz, should be"):
        load_audio(tmp_path / "a.wav")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_too_many_channels_are_refused():
    with pytest.raises(BadAudio, match="its header says 100 channels, should be at most 64"):
        read_all(encoded(np.zeros((10, 100)), format="WAV"))


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_suffix_does_not_determine_the_format(wav, noise, name):
    path = wav(name)
    np.testing.assert_allclose(load_audio(path.rename(path.with_name("b.raw")), RATE), noise, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("b.raw", "a .raw file does not tell its rate; convert it, for example with ffmpeg -f s16le"),
        ("b.m4a", r".m4a files cannot be read here; convert it, .* ffmpeg -i \S+b.m4a \S+b.flac"),
        ("b.wav", "cannot be decoded as audio"),
    ],
)
def test_samples_without_a_header_are_refused(tmp_path, name, reason):
    (tmp_path / name).write_bytes(bytes(64_000))
    with pytest.raises(BadAudio, match=reason):
        read_recording(tmp_path / name)


@pytest.mark.parametrize(
    "error",
    [TypeError("x"), MemoryError(), RuntimeError("x"), ValueError("x"), OSError(5, "x"), AssertionError(),
     UnicodeDecodeError("utf-8", b"", 0, 1, "x"), sf.LibsndfileError(1), NotImplementedError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("when", ["open", "read"])
def test_library_errors_name_the_file(monkeypatch, wav, error, when):
    def fail(*args, **options):
        raise error

    path = wav()
    monkeypatch.setattr(*((sf, "SoundFile", fail) if when == "open" else (sf.SoundFile, "read", fail)))
    with pytest.raises(BadAudio, match=rf"{path}: \w+"):
        read_recording(path)


class Failing(io.BytesIO):
    """A file object that raises an error in the middle, like a lost connection."""

    def read(self, size=-1):
        if self.tell() > 2**24:
            raise ConnectionError("the connection was lost")
        return super().read(size)


def test_read_error_is_not_mistaken_for_end_of_file():
    content = encoded(np.zeros(2**24, np.int16), format="WAV")
    with (
        pytest.raises(BadAudio, match=r"s3://a\.wav: cannot be read: the connection was lost"),
        open_recording(Failing(content), "s3://a.wav") as file,
    ):
        file.read(2**24)


def test_damaged_data_is_skipped_without_seeking():
    """libsndfile cannot seek in a truncated FLAC."""
    whole = encoded(SOUND, format="FLAC")
    (first, *_) = read_windows(io.BytesIO(whole[: len(whole) // 2]), "a", window=1, hop=1, start=2, warn=str)
    np.testing.assert_array_equal(first[2], SOUND[32_000:48_000].astype(np.float32))
    with pytest.raises(BadAudio, match=r"a: has no second 9, lasts \d"):
        list(read_windows(io.BytesIO(whole[: len(whole) // 2]), "a", window=1, hop=1, start=9))


@pytest.mark.parametrize(("at", "removed", "new"), [(0, 0, b""), (3, 2, b"xyz"), (0, 4, b"z"), (7, 3, b"")])
def test_patched_file_replaces_bytes(at, removed, new):
    wanted = b"0123456789"[:at] + new + b"0123456789"[at + removed :]
    for block in (1, 3, 100):
        view = io.BufferedReader(PatchedFile(io.BytesIO(b"0123456789"), 10, Patch(at, removed, new)), 1)
        assert b"".join(iter(lambda view=view, block=block: view.read(block), b"")) == wanted
    view = PatchedFile(io.BytesIO(b"0123456789"), 10, Patch(at, removed, new))
    assert view.seek(0, io.SEEK_END) == len(wanted)
    view.seek(4)
    assert view.read() == wanted[4:]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_stored_samples_equal_the_original(tmp_path, subtype):
    """All bits of 16-bit and 24-bit samples are kept."""
    values = np.random.default_rng(0).integers(-3, 4, 5000) / 2 ** (15 if subtype == "PCM_16" else 23)
    samples, rate, _ = read_all(encoded(values, format="WAV", subtype=subtype))
    kept = FlacSamples.from_samples(samples, rate)
    kept.write(tmp_path / "a.flac")
    assert kept.gain_db == 0
    np.testing.assert_array_equal(sf.read(tmp_path / "a.flac")[0], values)


def test_peaks_over_full_scale_are_scaled_not_clipped(tmp_path):
    samples = (5 * np.sin(np.arange(4410) / 10)).astype(np.float32)
    kept = FlacSamples.from_samples(samples, RATE)
    kept.write(tmp_path / "a.flac")
    found = sf.read(tmp_path / "a.flac")[0]
    assert kept.gain_db == pytest.approx(20 * np.log10(1 / 5), abs=1e-3)
    np.testing.assert_allclose(found * 10 ** (-kept.gain_db / 20), samples, atol=1e-3)
    assert np.abs(found).max() < 1


@pytest.mark.parametrize("rate", [1000, 44_100, 65_535, 65_536, 195_312, 256_000, 655_350, 1_000_000])
def test_rates_above_the_limits_of_flac_are_resampled(tmp_path, rate):
    tone = np.sin(2 * np.pi * 200 * np.arange(rate // 2) / rate).astype(np.float32) / 2
    kept = FlacSamples.from_samples(tone, rate)
    kept.write(tmp_path / "a.flac")
    found, stored = sf.read(tmp_path / "a.flac")
    assert stored == flac_rate(rate) <= rate
    assert len(found) / stored == pytest.approx(0.5, abs=1e-3)
    wanted = np.sin(2 * np.pi * 200 * np.arange(len(found)) / stored) / 2
    cut = len(found) // 10  # the filter's edges
    np.testing.assert_allclose(found[cut:-cut], wanted[cut:-cut], atol=2e-3)
