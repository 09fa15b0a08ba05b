"""The windows that a long recording is tagged in."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile as sf

from ust.audio.clips import CLIP_SECONDS
from ust.audio.recordings import BadAudio
from ust.files.errors import UserError


@dataclass(frozen=True)
class Window:
    """A stretch of a recording and what is heard in it.

    Attributes
    ----------
    start, end : float
        Seconds.
    probabilities : numpy.ndarray [shape=(labels,), float32]
        Of all labels, coarse first.
    features : dict of str to numpy.ndarray or None
        What the system was given, by its inputs, where that is asked for.
    """

    start: float
    end: float
    probabilities: np.ndarray
    features: dict[str, np.ndarray] | None = None


def check_range(window: float, hop: float) -> None:
    """Check that windows can be tagged and leave nothing out.

    Raises
    ------
    UserError
        If the window or the hop is out of range.
    """
    if not 0 < window <= CLIP_SECONDS:
        raise UserError(f"window is {window}, should be more than 0 and at most {CLIP_SECONDS} seconds")
    if not 0 < hop <= window:
        raise UserError(f"hop is {hop}, should be more than 0 and at most the window of {window} seconds")


def stretches(
    file: sf.SoundFile, name: str, window: float, hop: float, start: float, duration: float | None
) -> Iterator[tuple[float, float, np.ndarray]]:
    """Start and end in seconds, and samples [shape=(n, channels)], of each window, to the end."""
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
