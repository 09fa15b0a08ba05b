"""The windows that a long recording is read in."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ust.audio.recordings import BadAudio, open_recording

log = logging.getLogger("ust")


def windows(
    source: Path | BinaryIO,
    name: str | None = None,
    *,
    window: float,
    hop: float,
    start: float = 0.0,
    duration: float | None = None,
    warn: Callable[[str], object] = log.warning,
) -> Iterator[tuple[float, float, np.ndarray, int]]:
    """Read a recording window by window to the end, with the memory of a window.

    Parameters
    ----------
    source : Path or file object
        See `ust.audio.recordings.open_recording`.
    name : str, optional
        Of the recording, for messages.
    window, hop : float
        Seconds that a window lasts, and from the start of one to that of the next.
    start : float
        Seconds; where the first window begins.
    duration : float, optional
        Seconds; by default to the end.
    warn : callable
        Is told, at the end, if the file is incomplete.

    Yields
    ------
    start, end : float
        Seconds.
    samples : numpy.ndarray [shape=(n,), float32]
        Mono; full scale is ±1; the last window may be shorter.
    sample_rate : int
        Hz.

    Raises
    ------
    BadAudio
        If it is not audio, empty there, or has samples that are not finite.
    """
    with open_recording(source, name) as file:
        rate = file.sample_rate
        length, step = round(window * rate), max(1, round(hop * rate))
        place = round(start * rate)
        last = None if duration is None else place + round(duration * rate)
        file.skip(place)
        waiting = np.zeros(0, np.float32)
        while True:
            # One sample more than a window tells whether there is another one.
            wanted = place + length + 1 if last is None else min(place + length + 1, last)
            more = file.read(wanted - place - len(waiting))
            waiting = np.concatenate([waiting, more]) if len(waiting) else more
            if len(waiting) == 0:
                if place == round(start * rate):
                    raise BadAudio(f"{file.name}: has no second {start:g}, lasts {file.position / rate:g} s")
                break
            yield place / rate, (place + min(length, len(waiting))) / rate, waiting[:length], rate
            if len(waiting) <= length:
                break
            file.skip(step - len(waiting))
            waiting, place = waiting[step:], place + step
        if file.warning:
            warn(file.warning)
