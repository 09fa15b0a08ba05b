"""The report's Figure 1: what a network is given of a clip."""

import librosa
import numpy as np
import torch
from matplotlib.figure import Figure

from ust.features.vggish.embedding import QUANTISE_RANGE, dequantise

PATCH_SECONDS = 0.96


def features_figure(
    logmel: np.ndarray, vggish: np.ndarray, *, sample_rate: int, hop_length: int, title: str
) -> Figure:
    """Draw a clip's log-mel spectrogram above its VGGish embeddings, on one axis of time.

    Parameters
    ----------
    logmel : numpy.ndarray [shape=(bands, frames)]
        dB.
    vggish : numpy.ndarray [shape=(10, 128)]
        Quantised to 8 bits.
    sample_rate : int
        Of the log-mel, Hz.
    hop_length : int
        Samples from frame to frame.
    title : str
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    seconds = logmel.shape[1] * hop_length / sample_rate
    mesh = librosa.display.specshow(
        logmel.astype(np.float32),
        sr=sample_rate,
        hop_length=hop_length,
        x_axis="time",
        y_axis="mel",
        ax=above,
    )
    figure.colorbar(mesh, ax=above, format="%+2.0f dB")
    above.set(title=title, xlabel="", ylabel="log-mel: frequency [Hz]")
    values = dequantise(torch.from_numpy(vggish)).numpy()
    low, high = QUANTISE_RANGE
    image = below.imshow(
        values.T, aspect="auto", origin="lower", interpolation="nearest", cmap="viridis", vmin=low, vmax=high,
        extent=(0, len(vggish) * PATCH_SECONDS, -0.5, vggish.shape[1] - 0.5),
    )  # fmt: skip
    figure.colorbar(image, ax=below)
    below.set(xlabel="time [s]", ylabel="VGGish: dimension", xlim=(0, seconds))
    return figure
