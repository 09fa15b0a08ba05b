"""The report's log-mel spectrogram."""

import librosa
import numpy as np


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
