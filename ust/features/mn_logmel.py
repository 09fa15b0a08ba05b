"""EfficientAT's log-mel spectrogram, the input of its MobileNets, as a feature.

References
----------
Schmid, Koutini & Widmer, Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation,
ICASSP 2023.
"""

from functools import cache

import numpy as np
from scipy.sparse import csr_array

from ust.audio.recordings import CLIP_SECONDS
from ust.audio.resampling import resample
from ust.features.feature import Feature
from ust.features.mel import htk_mel_filter_bank, mel_spectrogram
from ust.util.config import Section

SAMPLE_RATE = 32_000
FFT, WINDOW, HOP, BANDS, HIGHEST = 1024, 800, 320, 128, 15_000.0
PRE_EMPHASIS = 0.97
OFFSET, SHIFT, SCALE = 1e-5, 4.5, 5.0  # a log-mel is (ln(power + OFFSET) + SHIFT) / SCALE
FRAMES = CLIP_SECONDS * SAMPLE_RATE // HOP


class Settings(Section):
    """The feature has no settings."""


def log_mel(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Compute the network's input.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n,)]
        Mono, more than 1024 samples at 32 kHz.
    sample_rate : int
        Hz; resampled to 32 kHz by resampy if different.

    Returns
    -------
    numpy.ndarray [shape=(128, frames), float32]
        (ln(power + 1e-5) + 4.5) / 5 of Kaldi's mel bands, frames of 10 ms.
    """
    samples = resample(np.asarray(samples, np.float32), sample_rate, SAMPLE_RATE)
    emphasised = samples[1:] - np.float32(PRE_EMPHASIS) * samples[:-1]
    padded = np.pad(emphasised, FFT // 2, mode="reflect")
    # The window is centred in the FFT frame; the zeros on both sides of it are left out.
    inner = padded[(FFT - WINDOW) // 2 :][: len(padded) - FFT + WINDOW]
    mel = mel_spectrogram(inner, hann_window(), sparse_mel_filter_bank(), n_fft=FFT, hop_length=HOP)
    return ((np.log(mel + np.float32(OFFSET)) + np.float32(SHIFT)) / np.float32(SCALE)).astype(np.float32)


@cache
def hann_window() -> np.ndarray:
    """Return Kaldi's symmetric Hann window."""
    return np.hanning(WINDOW).astype(np.float32)


@cache
def sparse_mel_filter_bank() -> csr_array:
    """Return `mel_filter_bank` as a sparse matrix."""
    return csr_array(mel_filter_bank())


def mel_filter_bank() -> np.ndarray:
    """Return Kaldi's mel filter bank from 0 to 15 kHz [shape=(128, 513), float32]."""
    return htk_mel_filter_bank(SAMPLE_RATE, FFT, BANDS, low=0.0, high=HIGHEST).astype(np.float32)


def process_clip(samples: np.ndarray, sample_rate: int, config: Settings) -> np.ndarray:
    """Return the log-mel of a clip [shape=(128, 1000), float16]."""
    return log_mel(samples, sample_rate).astype(np.float16)


def shape(config: Settings) -> tuple[int, int]:
    """Return the bands and frames of a clip."""
    return BANDS, FRAMES


FEATURE = Feature(
    Settings,
    Settings,
    "float16",
    shape,
    process_clip,
    sources=("ust/features/mn_logmel.py", "ust/features/mel.py"),
    packages=("numpy", "resampy", "scipy", "soundfile"),
)
