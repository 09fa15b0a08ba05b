"""The report's Figure 1: the features of one clip."""

from collections.abc import Mapping
from typing import Any

import librosa
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ust.audio.recordings import CLIP_SECONDS
from ust.features.vggish.embedding import QUANTISE_RANGE, dequantise

PATCH_SECONDS = 0.96
SPECTROGRAM_WITHOUT_HOP = "mn_logmel"  # kind of a spectrogram whose file has no hop_length


def draw_features(
    values: Mapping[str, np.ndarray], attributes: Mapping[str, Mapping[str, Any]], *, title: str
) -> Figure:
    """Draw the features of a clip below each other, with a common time axis."""
    heights = [2 if "network" in attributes[name] else 3 for name in values]
    figure = Figure(figsize=(9, 1.4 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(values), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, value) in zip(axes, values.items(), strict=True):
        kind = attributes[name]["kind"]
        if "hop_length" in attributes[name]:
            _draw_spectrogram(figure, axis, name, value, attributes[name])
        elif kind == "vggish":
            embeddings, seconds = dequantise(torch.from_numpy(value)).numpy(), len(value) * PATCH_SECONDS
            _draw_values(figure, axis, embeddings.T, "VGGish: dimension", seconds, QUANTISE_RANGE)
        elif kind == SPECTROGRAM_WITHOUT_HOP:
            _draw_values(figure, axis, value, f"{name}: band")
        else:
            _draw_values(figure, axis, np.atleast_2d(value).T, f"{name}: dimension")
    axes[0].set_title(title)
    axes[-1].set(xlabel="time [s]", xlim=(0, CLIP_SECONDS))
    return figure


def _draw_spectrogram(
    figure: Figure, axis: Axes, name: str, value: np.ndarray, attributes: Mapping[str, Any]
) -> None:
    """Draw a mel spectrogram [shape=(bands, frames)]."""
    mesh = librosa.display.specshow(
        value.astype(np.float32),
        sr=int(attributes["sample_rate"]),
        hop_length=int(attributes["hop_length"]),
        x_axis="time",
        y_axis="mel",
        ax=axis,
    )
    figure.colorbar(mesh, ax=axis, format="%+2.0f dB" if name.startswith("logmel") else None)
    axis.set(xlabel="", ylabel=f"{'log-mel' if name == 'logmel' else name}: frequency [Hz]")


def _draw_values(
    figure: Figure,
    axis: Axes,
    rows: np.ndarray,
    label: str,
    seconds: float = CLIP_SECONDS,
    limits: tuple[float | None, float | None] = (None, None),
) -> None:
    """Draw a feature [shape=(bands or dimensions, time)]; a clip's embedding is one column."""
    image = axis.imshow(
        rows.astype(np.float32),
        aspect="auto", origin="lower", interpolation="nearest", cmap="viridis",
        vmin=limits[0], vmax=limits[1], extent=(0, seconds, -0.5, len(rows) - 0.5),
    )  # fmt: skip
    figure.colorbar(image, ax=axis)
    axis.set(ylabel=label)
