"""Reading clips: ten mono seconds from whatever the file holds, or a clear reason why not."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf

from ust.audio.clips import CLIP_SECONDS, SAMPLE_RATE
from ust.audio.resampling import resample
from ust.files.errors import UserError

OPEN_LENGTH = 0x7FFF0000


class BadAudio(UserError):
    """A file that cannot be used as a clip; the message names the file and the reason."""


@dataclass(frozen=True)
class Recording:
    """A decoded file.

    Attributes
    ----------
    samples : numpy.ndarray [shape=(frames, channels), float32]
        Full scale is ±1.
    sample_rate : int
        Hz.
    """

    samples: np.ndarray
    sample_rate: int

    @property
    def conversions(self) -> list[str]:
        """What has to be changed to make a standard clip of it (mono, 44.1 kHz, ten seconds)."""
        frames, channels = self.samples.shape
        found = []
        if channels > 1:
            found.append("more than one channel")
        if self.sample_rate != SAMPLE_RATE:
            found.append("other sample rate")
        if frames < CLIP_SECONDS * self.sample_rate:
            found.append("shorter than 10 s")
        elif frames > CLIP_SECONDS * self.sample_rate:
            found.append("longer than 10 s")
        return found


def read_recording(path: Path) -> Recording:
    """Decode a WAV, FLAC or OGG file as it is.

    Raises
    ------
    BadAudio
        If the file is missing, empty, truncated, not audio, silent (every sample 0), or has samples that
        are not finite.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise BadAudio(f"{path}: the file is empty")
        with sf.SoundFile(path) as file, path.open("rb") as raw:
            check_whole(str(path), raw, size)
            samples = file.read(dtype="float32", always_2d=True)
            rate, promised = file.samplerate, file.frames
    except FileNotFoundError:
        raise BadAudio(f"{path}: no such file") from None
    except (sf.LibsndfileError, OSError, ValueError, MemoryError) as error:
        reason = " ".join(str(getattr(error, "error_string", error)).split())
        raise BadAudio(f"{path}: cannot be decoded as audio: {reason}") from None
    if len(samples) == 0:
        raise BadAudio(f"{path}: holds no samples")
    if len(samples) < promised:
        raise BadAudio(f"{path}: is truncated: {len(samples)} of {promised} samples can be decoded")
    if not np.isfinite(samples).all():
        raise BadAudio(f"{path}: has samples that are NaN or infinite")
    if not samples.any():
        raise BadAudio(f"{path}: is silent: every sample is 0")
    return Recording(samples, rate)


def load_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read a file as a clip: channels averaged, cut or zero-padded to ten seconds, resampled if need be.

    Parameters
    ----------
    path : Path
        WAV, FLAC or OGG of any rate, length and number of channels.
    sample_rate : int
        Hz.

    Returns
    -------
    numpy.ndarray [shape=(10 * sample_rate,), float32]

    Raises
    ------
    BadAudio
        See `read_recording`.
    """
    recording = read_recording(Path(path))
    mono = fit_length(recording.samples.mean(axis=1), recording.sample_rate)
    return resample(mono, recording.sample_rate, sample_rate)


def fit_length(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Cut mono samples to ten seconds, or pad them with zeros at the end."""
    length = CLIP_SECONDS * sample_rate
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def write_sound(path: Path, samples: np.ndarray, sample_rate: int, *, format: str, subtype: str) -> None:
    """Write mono samples in [-1, 1] in one of soundfile's formats."""
    buffer = io.BytesIO()  # libsndfile does not say why it cannot write to a file
    sf.write(buffer, samples, sample_rate, format=format, subtype=subtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getbuffer())


def check_whole(name: str, raw: BinaryIO, size: int) -> None:
    """Check that a WAV or OGG holds what it promises: libsndfile reads a truncated one as a shorter one.

    Parameters
    ----------
    name : str
        Of the file, for the message.
    raw : file object
        Open for reading bytes, at any position.
    size : int
        Bytes.

    Raises
    ------
    BadAudio
        If it is truncated.
    """
    raw.seek(0)
    head = raw.read(4)
    if head in (b"RIFF", b"RIFX"):
        _check_samples(name, raw, size, "<4sI" if head == b"RIFF" else ">4sI")
    if head == b"OggS":
        raw.seek(max(0, size - 65_536))
        tail = raw.read()
        last = tail.rfind(b"OggS")
        if last < 0 or len(tail) < last + 6 or not tail[last + 5] & 0x04:
            raise BadAudio(f"{name}: is truncated: its last Ogg page is not marked as the end of the stream")


def _check_samples(name: str, raw: BinaryIO, size: int, layout: str) -> None:
    """Whether a WAV file holds all the samples it promises; what it says of the whole file may be wrong."""
    raw.seek(12)
    while len(header := raw.read(8)) == 8:
        chunk, length = struct.unpack(layout, header)
        start = raw.tell()
        if chunk == b"data":
            # Programs that cannot seek back leave the length open: 0, or as much as there can be.
            if length < OPEN_LENGTH and start + length > size:
                raise BadAudio(f"{name}: is truncated: {size} of {start + length} bytes are there")
            return
        raw.seek(start + length + length % 2)
