"""The windows that a long recording is tagged in."""

from dataclasses import dataclass

import numpy as np

from ust.audio.clips import CLIP_SECONDS
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
