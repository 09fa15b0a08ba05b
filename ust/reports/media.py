"""Media embedded in HTML pages: spectrograms as PNG, clips as MP3, charts as SVG."""

import base64
import io
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import librosa
import matplotlib
import numpy as np
import pandas as pd
import soundfile as sf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ust.audio.recordings import CLIP_SECONDS, SAMPLE_RATE, read_windows
from ust.audio.resampling import resample
from ust.features.logmel import logmel

LOWEST_DB = -80.0
AXES_COLOUR = "#808080"  # readable on white and on black


def read_clip(
    source: Path | BinaryIO, name: str | None = None, *, start: float = 0.0, duration: float | None = None
) -> np.ndarray:
    """Read at most ten seconds of a recording at 44.1 kHz, without padding."""
    with closing(
        read_windows(source, name, window=CLIP_SECONDS, hop=CLIP_SECONDS, start=start, duration=duration)
    ) as windows:
        _, _, samples, rate = next(windows)
    return resample(samples, rate, SAMPLE_RATE)


def embed_clip(samples: np.ndarray) -> dict[str, str]:
    """Return the ``picture`` and the ``sound`` of a clip at 44.1 kHz as data URIs."""
    return {
        "picture": data_uri(clip_png(samples, SAMPLE_RATE), "image/png"),
        "sound": data_uri(clip_mp3(samples, SAMPLE_RATE), "audio/mpeg"),
    }


def data_uri(content: bytes, media_type: str) -> str:
    """Encode a file's content as a data URI, to embed it into a page."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def spectrogram_png(logmel: np.ndarray) -> bytes:
    """Draw a log-mel spectrogram [shape=(bands, frames), dB] as PNG, two frames per pixel."""
    pairs = logmel[:, : logmel.shape[1] // 2 * 2].astype(np.float32).reshape(len(logmel), -1, 2).max(axis=2)
    level = np.clip(1 - pairs[::-1] / LOWEST_DB, 0, 1)
    image = Image.fromarray((level * 63).round().astype(np.uint8), "P")
    colours = matplotlib.colormaps["magma"](np.linspace(0, 1, 64))[:, :3]
    image.putpalette((colours * 255).round().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def clip_png(samples: np.ndarray, sample_rate: int) -> bytes:
    """Draw the log-mel spectrogram of a clip of any length with axes, for light and dark pages, as PNG."""
    db = logmel(samples, sample_rate=sample_rate, n_fft=1024, hop_length=512, n_mels=96)
    figure = Figure(figsize=(4.4, 1.9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        db, origin="lower", aspect="auto", cmap="magma", vmin=LOWEST_DB, vmax=0,
        extent=(0, len(samples) / sample_rate, 0, 1),
    )  # fmt: skip
    ticks = mel_ticks(sample_rate)
    axes.set_yticks([place for _, place in ticks], [name for name, _ in ticks])
    axes.xaxis.set_major_formatter("{x:g} s")
    axes.tick_params(colors=AXES_COLOUR, labelsize=8)
    axes.spines[:].set_color(AXES_COLOUR)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, transparent=True, metadata={"Software": None})
    image = Image.open(buffer).quantize(96, method=Image.Quantize.FASTOCTREE)  # a third of the bytes
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def mel_ticks(sample_rate: int, hertz: tuple[int, ...] = (250, 1000, 4000, 16000)) -> list[tuple[str, float]]:
    """Return axis labels in Hz with their relative height in the picture, from 0 to 1.

    Heights follow Slaney's mel scale from 0 Hz to half the sample rate, as librosa's bands.
    """
    top = float(librosa.hz_to_mel(sample_rate / 2))
    names = [f"{h // 1000} kHz" if h >= 1000 else f"{h} Hz" for h in hertz]
    places = [float(librosa.hz_to_mel(h)) / top for h in hertz]
    return [(name, place) for name, place in zip(names, places, strict=True) if place < 1]


def clip_mp3(samples: np.ndarray, sample_rate: int) -> bytes:
    """Encode mono samples as MP3, which is reproducible (unlike Ogg) and plays in every browser."""
    peak = max(float(np.abs(samples).max()), 1e-9)
    buffer = io.BytesIO()
    # Normalise the peak: many clips are too quiet for a phone.
    sf.write(buffer, 0.9 * samples / peak, sample_rate, format="MP3", subtype="MPEG_LAYER_III",
             compression_level=0.9)  # fmt: skip
    return buffer.getvalue()


def chart_svg(curves: dict[str, pd.DataFrame], column: str, label: str) -> str:
    """Plot a column of learning curves over epochs as SVG, for the networks that have it."""

    def draw(axes: Axes) -> None:
        for name, table in curves.items():
            if column in table and table[column].any():
                axes.plot(table["epoch"], table[column], label=name, marker=".", linewidth=1.2, markersize=4)
        axes.set(xlabel="epoch", ylabel=label, yscale="log" if column == "lr" else "linear")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:
            axes.legend(fontsize=7, framealpha=0)

    return render_svg(draw, column)


def render_svg(draw: Callable[[Axes], None], name: str) -> str:
    """Render a plot as an SVG element in the page's text colour, reproducibly for equal plots and names."""
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.grid(alpha=0.25)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("#000000", "currentColor")
