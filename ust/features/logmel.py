"""The report's log-mel spectrogram."""

from typing import Annotated

import librosa
import numpy as np
from pydantic import Field

from ust.audio.clips import CLIP_SECONDS
from ust.audio.resampling import resample
from ust.features.feature import Feature
from ust.files.settings import Count, Section


class LogMel(Section):
    """The section ``logmel`` of params.yaml: arguments of `logmel`."""

    sample_rate: Annotated[int, Field(ge=8000, le=192000)]
    n_fft: Annotated[int, Field(ge=16)]
    hop_length: Count
    n_mels: Count


def logmel(samples: np.ndarray, *, sample_rate: int, n_fft: int, hop_length: int, n_mels: int) -> np.ndarray:
    """Log-mel spectrogram relative to its own maximum, by librosa's definition.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n,), float32]
        Mono.
    sample_rate : int
        Hz.
    n_fft, hop_length : int
        Samples; a periodic Hann window of n_fft, frames centred, zero-padded at the edges.
    n_mels : int
        Slaney mel bands from 0 Hz to half the sample rate.

    Returns
    -------
    numpy.ndarray [shape=(n_mels, 1 + n // hop_length), float32]
        dB, from -80 to 0.

    Examples
    --------
    >>> tone = np.sin(np.arange(441_000) * 0.1).astype(np.float32)
    >>> db = logmel(tone, sample_rate=44_100, n_fft=2048, hop_length=512, n_mels=128)
    >>> db.shape, float(db.max())
    ((128, 862), 0.0)
    """
    power = librosa.feature.melspectrogram(
        y=samples, sr=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels
    )
    return librosa.power_to_db(power, ref=np.max)


def of_clip(samples: np.ndarray, sample_rate: int, settings: LogMel) -> np.ndarray:
    """The log-mel of a clip of any rate, as stored (float16: at most 0.04 dB off)."""
    resampled = resample(samples, sample_rate, settings.sample_rate)
    return logmel(resampled, **settings.model_dump()).astype(np.float16)


def shape(settings: LogMel) -> tuple[int, int]:
    """Bands and frames of a clip."""
    return settings.n_mels, 1 + CLIP_SECONDS * settings.sample_rate // settings.hop_length


FEATURE = Feature(
    LogMel, LogMel, "float16", shape, of_clip, packages=("librosa", "numpy", "resampy", "soundfile")
)
