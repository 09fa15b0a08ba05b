"""The windows that a long recording is read in."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile as sf

from ust.audio.recordings import BadAudio


def windows(
    raw: BinaryIO, name: str, *, window: float, hop: float, start: float = 0.0, duration: float | None = None
) -> Iterator[tuple[float, float, np.ndarray, int]]:
    """Read what an open file holds, window by window, to the end.

    Parameters
    ----------
    raw : file object
        Open for reading bytes, and seekable.
    name : str
        Of the recording, for messages.
    window, hop : float
        Seconds that a window lasts, and from the start of one to that of the next.
    start : float
        Seconds; where the first window begins.
    duration : float, optional
        Seconds; by default to the end.

    Yields
    ------
    start, end : float
        Seconds.
    samples : numpy.ndarray [shape=(n, channels), float32]
        Full scale is ±1; the last window may be shorter.
    sample_rate : int
        Hz.

    Raises
    ------
    BadAudio
        If it is not audio, empty there, or has samples that are not finite.
    """
    try:
        with sf.SoundFile(raw) as file:
            for begin, end, samples in _stretches(file, name, window, hop, start, duration):
                yield begin, end, samples, file.samplerate
    except (sf.LibsndfileError, OSError) as error:
        reason = " ".join(str(getattr(error, "error_string", error)).split())
        raise BadAudio(f"{name}: cannot be decoded as audio: {reason}") from None


def _stretches(
    file: sf.SoundFile, name: str, window: float, hop: float, start: float, duration: float | None
) -> Iterator[tuple[float, float, np.ndarray]]:
    rate = file.samplerate
    length, step = round(window * rate), max(1, round(hop * rate))
    first = place = round(start * rate)
    if file.frames == 0:
        raise BadAudio(f"{name}: holds no samples")
    if not 0 <= place < file.frames:
        raise BadAudio(f"{name}: has no second {start:g}, lasts {file.frames / rate:g} s")
    last = file.frames if duration is None else min(file.frames, place + round(duration * rate))
    while True:
        file.seek(place)
        samples = file.read(min(length, last - place), dtype="float32", always_2d=True)
        if len(samples) == 0 and place == first:
            raise BadAudio(f"{name}: holds no samples")
        if len(samples) == 0:
            return
        if not np.isfinite(samples).all():
            raise BadAudio(f"{name}: has samples that are NaN or infinite")
        yield place / rate, (place + len(samples)) / rate, samples
        if place + length >= last:
            return
        place += step
