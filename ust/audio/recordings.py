"""Open, read and write sound files; the definition of a clip."""

import io
import logging
import math
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf

from ust.audio.containers import PatchedFile, inspect_header
from ust.audio.resampling import resample
from ust.audio.suffixes import conversion_hint
from ust.util.errors import UserError, single_line
from ust.util.names import printable

log = logging.getLogger("ust")

CLIP_SECONDS = 10
SAMPLE_RATE = 44100  # Hz

SAMPLE_RATE_RANGE = (1_000, 1_000_000)  # Hz; other values are damaged headers
MAX_CHANNELS = 64
MAX_IN_MEMORY = 2**24  # bytes; smaller files are read into memory at once
BLOCK_SAMPLES = 2**21  # samples, over all channels, decoded at a time
MAX_FRAMES = 2**48  # a larger declared length means that the length is unknown
MPEG_SLACK = 0.1  # seconds; tolerance of an MP3's declared length, because encoders count frames differently
FLAC_BITS = 24
MAX_FLAC_RATE = 655_350  # Hz; the highest rate of FLAC


class BadAudio(UserError):
    """A file that cannot be used as a recording; the message names the file and the reason."""


class AudioFile:
    """An open recording that is read sequentially."""

    def __init__(self, raw: BinaryIO, size: int, name: str) -> None:
        self.name, self.position = name, 0  # name in messages; frames read so far
        self._raw, self._size, self._ended = raw, size, False
        self._length, self._patch = inspect_header(raw, size)
        self._file = self._open()
        self.sample_rate, self.channels = self._file.samplerate, self._file.channels
        low, high = SAMPLE_RATE_RANGE
        problem = ""
        if not low <= self.sample_rate <= high:
            problem = f"a sample rate of {self.sample_rate} Hz, should be {low} to {high}"
        elif not 1 <= self.channels <= MAX_CHANNELS:
            problem = f"{self.channels} channels, should be at most {MAX_CHANNELS}"
        if problem:
            self.close()
            raise BadAudio(f"{name}: its header says {problem}; if that is wrong, the file is damaged")
        # On damaged data these decoders fill a part of the buffer without returning its length.
        self._compressed = self._file.format in ("FLAC", "OGG", "MP3")

    def _open(self) -> sf.SoundFile:
        """Open the decoder at the beginning of the file."""
        self._view = PatchedFile(self._raw, self._size, self._patch)
        return sf.SoundFile(self._view)

    @property
    def frames(self) -> int | None:
        """The declared number of frames; None if the file declares none."""
        ratio, frames = self._length.declared_ratio, self._file.frames
        if self._length.guessed or self._length.cut or frames > MAX_FRAMES:
            return None
        return frames if ratio is None else round(frames * ratio)

    @property
    def warning(self) -> str | None:
        """A message with the read and the declared length, after the end of an incomplete file; else None."""
        declared, rate = self.frames, self.sample_rate
        if not self._ended:
            return None
        if self._length.cut:
            return f"{self.name}: incomplete: read {self.position / rate:.1f} s, its end is missing"
        if declared is None or declared == self.position:
            return None
        missing = (declared - self.position) / rate
        if self._file.format == "MP3" and 0 < missing < MPEG_SLACK:
            return None
        digits = 1 if abs(missing) >= 0.1 else 4
        read, promised = f"{self.position / rate:.{digits}f}", f"{declared / rate:.{digits}f}"
        if missing < 0:
            return f"{self.name}: unfinished: read {read} s, its header promises {promised} s"
        return f"{self.name}: incomplete: read {read} s of {promised} s"

    def read(self, frames: int) -> np.ndarray:
        """Decode the next frames, at the end of the file fewer, and average their channels (n,).

        Memory grows with the decoded samples, not with the declared length.
        """
        parts = []
        while frames > 0 and not self._ended:
            with explain_read_errors(self.name):
                part = self._decode(min(frames, max(1, BLOCK_SAMPLES // self.channels)))
            if not np.isfinite(part).all():
                raise BadAudio(f"{self.name}: has samples that are NaN or infinite")
            parts.append(part)
            frames -= len(part)
        if self._ended and self.position == 0:
            raise BadAudio(f"{self.name}: holds no samples")
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """Yield blocks of `frames` frames, to the end of the file."""
        while len(block := self.read(frames)):
            yield block

    def _decode(self, frames: int) -> np.ndarray:
        """Decode up to `frames` frames; of damaged data, those before the damage."""
        expected = min(frames, self._file.frames - self.position)
        if expected <= 0:
            self._ended = True
            return np.zeros(0, np.float32)
        shape = (expected, self.channels)
        out = np.full(shape, np.nan, np.float32) if self._compressed else np.empty(shape, np.float32)
        try:
            count = len(self._file.read(expected, out=out))
            self._ended = count == 0
        except sf.LibsndfileError:
            missing = np.isnan(out[:, -1])
            count = int(missing.argmax()) if missing.any() else expected
            self._ended = True
            if not self._compressed or self.position + count == 0:
                raise
        if self._view.error is not None:
            raise self._view.error
        self.position += count
        self._ended |= self.position >= self._file.frames
        return out[:count, 0] if self.channels == 1 else out[:count].mean(axis=1)

    def skip(self, frames: int) -> None:
        """Skip `frames` frames, at most to the end of the file."""
        if frames <= 0:
            return
        target = self.position + frames
        with explain_read_errors(self.name):
            try:
                self._file.seek(min(target, max(0, self._file.frames - 1)))
                self.position = self._file.tell()
            except sf.LibsndfileError:  # a damaged file cannot seek: decode it from the beginning
                self._file.close()
                self._file, self.position = self._open(), 0
        while self.position < target and not self._ended:
            self.read(min(target - self.position, BLOCK_SAMPLES))

    def close(self) -> None:
        """Close the decoder; the underlying file object stays open."""
        self._file.close()


@contextmanager
def open_recording(source: Path | BinaryIO, name: str | None = None) -> Iterator[AudioFile]:
    """Open a sound file.

    The format is detected from the content, not from the file's name. Incomplete and unfinished files are
    read as far as possible (see `AudioFile.warning`).

    Examples
    --------
    >>> with open_recording(Path("street.wav")) as file:  # doctest: +SKIP
    ...     samples = file.read(10 * file.sample_rate)
    """
    name = printable(name or source)
    with explain_read_errors(name):
        if isinstance(source, Path):
            if not stat.S_ISREG(source.stat().st_mode) and not source.is_dir():
                raise BadAudio(f"{name}: is no regular file")  # reading a pipe would block
            raw = source.open("rb")
        else:
            raw = source
    try:
        with explain_read_errors(name):
            size = raw.seek(0, io.SEEK_END) or raw.tell()
            if size == 0:
                raise BadAudio(f"{name}: the file is empty")
            raw.seek(0)
            file = AudioFile(io.BytesIO(raw.read()) if size <= MAX_IN_MEMORY else raw, size, name)
        try:
            yield file
        finally:
            file.close()
    finally:
        if raw is not source:
            raw.close()


@contextmanager
def explain_read_errors(name: str) -> Iterator[None]:
    """Turn any error while reading a file into `BadAudio`, with the file's name in the message."""
    try:
        yield
    except BadAudio:
        raise
    except FileNotFoundError:
        raise BadAudio(f"{name}: no such file") from None
    except sf.LibsndfileError as error:
        reason = (
            conversion_hint(name)
            or f"cannot be decoded as audio: {printable(single_line(error.error_string))}"
        )
        raise BadAudio(f"{name}: {reason}") from None
    except OSError as error:
        raise BadAudio(f"{name}: cannot be read: {printable(single_line(error.strerror or error))}") from None
    except Exception as error:
        raise BadAudio(f"{name}: cannot be decoded as audio: {printable(single_line(error))}") from None


@dataclass(frozen=True)
class Recording:
    """The first ten seconds of a file, as decoded."""

    samples: np.ndarray  # (frames,): mono; full scale is ±1
    sample_rate: int  # Hz
    channels: int  # number of channels of the file
    longer: bool  # whether the file is longer than ten seconds
    warning: str | None  # see `AudioFile.warning`

    @property
    def conversions(self) -> list[str]:
        """The differences from a standard clip (mono, 44.1 kHz, ten seconds)."""
        differences = []
        if self.channels > 1:
            differences.append("more than one channel")
        if self.sample_rate != SAMPLE_RATE:
            differences.append("other sample rate")
        if len(self.samples) < CLIP_SECONDS * self.sample_rate:
            differences.append("shorter than 10 s")
        elif self.longer:
            differences.append("longer than 10 s")
        return differences


def read_recording(path: Path) -> Recording:
    """Decode the first ten seconds of a file, without resampling.

    Raises
    ------
    BadAudio
        If the file is missing, empty, not audio or silent (every sample 0), or has samples that are not
        finite.
    """
    with open_recording(path) as file:
        length = CLIP_SECONDS * file.sample_rate
        samples = file.read(length + 1)
        if not samples.any():
            raise BadAudio(f"{file.name}: is silent: every sample is 0")
        return Recording(
            samples[:length], file.sample_rate, file.channels, len(samples) > length, file.warning
        )


def load_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read a file as a clip: average its channels, cut or zero-pad it to ten seconds, and resample it.

    Parameters
    ----------
    path : Path
        A sound file of any format of libsndfile, sample rate, length and number of channels.
    sample_rate : int
        Sample rate of the result in Hz.

    Returns
    -------
    numpy.ndarray [shape=(10 * sample_rate,), float32]
        Full scale is ±1.

    Raises
    ------
    BadAudio
        See `read_recording`.
    """
    recording = read_recording(Path(path))
    mono = fit_length(recording.samples, recording.sample_rate)
    return resample(mono, recording.sample_rate, sample_rate)


def fit_length(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Cut mono samples to ten seconds, or pad them with zeros at the end."""
    length = CLIP_SECONDS * sample_rate
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def write_sound(path: Path, samples: np.ndarray, sample_rate: int, *, format: str, subtype: str) -> None:
    """Write mono samples, floats in [-1, 1] or integers, in a format of soundfile, to an existing folder."""
    buffer = io.BytesIO()  # libsndfile does not report why it cannot write to a file
    sf.write(buffer, samples, sample_rate, format=format, subtype=subtype)
    path.write_bytes(buffer.getbuffer())


@dataclass(frozen=True)
class FlacSamples:
    """Mono samples quantised to 24 bits, for a FLAC file."""

    values: np.ndarray  # (n,): in units of 2⁻²³ of full scale
    sample_rate: int  # Hz
    # Gain applied to the samples so that no peak is clipped: 0, or negative if peaks exceed full scale
    gain_db: float

    @classmethod
    def from_samples(cls, samples: np.ndarray, sample_rate: int) -> "FlacSamples":
        """Quantise mono samples; the sample rate is reduced if FLAC does not support it (`flac_rate`)."""
        rate = flac_rate(sample_rate)
        samples = resample(samples.astype(np.float64), sample_rate, rate)
        full = 2 ** (FLAC_BITS - 1)
        peak = float(np.abs(samples).max(initial=0))
        gain = 1.0 if peak <= 1 else (full - 1) / full / peak
        values = np.clip(np.rint(samples * gain * full), -full, full - 1).astype(np.int32)
        return cls(values, rate, round(20 * math.log10(gain), 3))

    def write(self, path: Path) -> None:
        """Write the FLAC file."""
        values = self.values << (32 - FLAC_BITS)  # soundfile takes the upper bits of an int32
        write_sound(path, values, self.sample_rate, format="FLAC", subtype=f"PCM_{FLAC_BITS}")


def flac_rate(sample_rate: int) -> int:
    """Return the highest sample rate of FLAC in Hz that is at most `sample_rate`.

    FLAC stores rates up to 65,535 Hz in hertz and higher ones, up to 655,350 Hz, in tens of hertz.

    Examples
    --------
    >>> flac_rate(44_100), flac_rate(65_536), flac_rate(195_312)
    (44100, 65530, 195310)
    """
    return sample_rate if sample_rate < 2**16 else min(sample_rate // 10 * 10, MAX_FLAC_RATE)


def read_windows(
    source: Path | BinaryIO,
    name: str | None = None,
    *,
    window: float,
    hop: float,
    start: float = 0.0,
    duration: float | None = None,
    warn: Callable[[str], object] = log.warning,
) -> Iterator[tuple[float, float, np.ndarray, int]]:
    """Read a recording window by window; memory does not grow with its length.

    Parameters
    ----------
    source : Path or file object
        See `ust.audio.recordings.open_recording`.
    name : str, optional
        Name of the recording in messages.
    window, hop : float
        Length of a window and distance between the starts of two windows, in seconds.
    start : float
        Start of the first window in seconds.
    duration : float, optional
        Seconds to read from `start`; by default to the end.
    warn : callable
        Called at the end with a message if the file is incomplete.

    Yields
    ------
    start, end : float
        Position of the window in seconds.
    samples : numpy.ndarray [shape=(n,), float32]
        Mono; full scale is ±1; the last window may be shorter.
    sample_rate : int
        Hz.

    Raises
    ------
    BadAudio
        If the file is not audio, ends before `start`, or has samples that are not finite.
    """
    with open_recording(source, name) as file:
        rate = file.sample_rate
        length, step = round(window * rate), max(1, round(hop * rate))
        first = position = round(start * rate)
        end = math.inf if duration is None else first + round(duration * rate)
        file.skip(first)
        buffer = np.zeros(0, np.float32)
        while True:
            # Read one sample more than a window, to know whether this is the last window.
            samples = file.read(min(position + length + 1, end) - position - len(buffer))
            buffer = np.concatenate([buffer, samples]) if len(buffer) else samples
            if len(buffer) == 0:
                if position == first:
                    raise BadAudio(f"{file.name}: has no second {start:g}, lasts {file.position / rate:g} s")
                break
            yield position / rate, (position + min(length, len(buffer))) / rate, buffer[:length], rate
            if len(buffer) <= length:
                break
            file.skip(step - len(buffer))
            buffer, position = buffer[step:], position + step
        if file.warning:
            warn(file.warning)
