"""Clips to look at."""

import numpy as np

from ust.audio.clips import SAMPLE_RATE
from ust.features.logmel import logmel
from ust.page.media import spectrogram_png

SPECTROGRAM = {"n_fft": 1024, "hop_length": 512, "n_mels": 96}


def spectrogram(samples: np.ndarray) -> bytes:
    """A picture of a clip of 44.1 kHz, as PNG."""
    return spectrogram_png(logmel(samples, sample_rate=SAMPLE_RATE, **SPECTROGRAM))
