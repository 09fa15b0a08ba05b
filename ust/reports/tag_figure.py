"""Figure of tagged recordings: the spectrogram and the most probable tags of each."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from ust.annotations.taxonomy import Taxonomy, label_name
from ust.audio.recordings import open_recording
from ust.features.logmel import hann_window, sparse_mel_filter_bank
from ust.features.mel import mel_spectrogram
from ust.reports.media import mel_ticks
from ust.tagging.tagger import Window
from ust.util.errors import UserError

MAX_RECORDINGS = 50
TAGS = 5  # bars per recording
MIN_PROBABILITY = 0.01  # tags below are not drawn
COLUMNS, BANDS, N_FFT = 1000, 96, 2048
RANGE_DB = 70.0


def draw_tags(
    paths: Mapping[str, Path],
    tagged: Mapping[str, list[Window]],
    taxonomy: Taxonomy,
    *,
    warning: str | None = None,
) -> Figure:
    """Draw a row for each recording: log-mel spectrogram, and bars of its five most probable coarse tags.

    Each coarse tag is shown with the most probable fine tag of its group. Probabilities are the maximum over
    windows.
    """
    if len(tagged) > MAX_RECORDINGS:
        raise UserError(
            f"a picture shows at most {MAX_RECORDINGS} recordings, these are {len(tagged)}; "
            "take another format"
        )
    figure = Figure(figsize=(12, 1.8 * len(tagged) + (0.6 if warning else 0.3)), layout="constrained")
    axes = figure.subplots(len(tagged), 2, squeeze=False, width_ratios=(5, 3))
    if warning:
        figure.suptitle(f"Warning: {warning}", fontsize=9, color="#b3261e", parse_math=False)
    texts = []
    for (spectrogram_axes, bar_axes), (name, windows) in zip(axes, tagged.items(), strict=True):
        seconds = windows[-1].end
        db, rate = spectrogram(paths[name], seconds)
        extent = (0, seconds, 0, BANDS)
        spectrogram_axes.imshow(
            db, origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB, vmax=0, extent=extent
        )
        spectrogram_axes.set_title(name, fontsize=9, loc="left", parse_math=False)
        ticks = mel_ticks(rate)
        places = [BANDS * place for _, place in ticks]
        spectrogram_axes.set_yticks(places, [name for name, _ in ticks], fontsize=7)
        spectrogram_axes.tick_params(axis="x", labelsize=7)
        tags = top_tags(np.stack([window.probabilities for window in windows]).max(axis=0), taxonomy)
        rows = min(TAGS, len(taxonomy.coarse))
        ys = range(rows, rows - len(tags), -1)
        bar_axes.barh(ys, [value for _, value in tags], color="#a6c8e4", height=0.7)
        for y, (label, value) in zip(ys, tags, strict=True):
            text = f"{value:.2f}  {label}"
            texts.append(bar_axes.text(0.02, y, text, va="center", fontsize=7, parse_math=False))
        if not tags:
            bar_axes.text(0.02, rows, "no tags", va="center", fontsize=7)
        bar_axes.set(xlim=(0, 1), ylim=(0.4, rows + 0.6), yticks=[])
        bar_axes.tick_params(axis="x", labelsize=7)
    axes[-1, 0].set_xlabel("time [s]", fontsize=8)
    axes[-1, 1].set_xlabel("probability", fontsize=8)
    figure.draw_without_rendering()  # sets the sizes of axes and texts
    for text in texts:
        _shorten_to_fit(text)
    return figure


def _shorten_to_fit(text: Text) -> None:
    """Cut a text at the right edge of its axes."""
    full, right = text.get_text(), text.axes.get_window_extent().x1
    length = len(full)
    while length and text.get_window_extent().x1 > right:
        length -= 1
        text.set_text(f"{full[:length]}…")


def top_tags(probabilities: np.ndarray, taxonomy: Taxonomy) -> list[tuple[str, float]]:
    """Return the most probable coarse tags, each with the most probable fine tag of its group.

    Tags below `MIN_PROBABILITY` are left out.
    """
    k = len(taxonomy.coarse)
    tags = []
    for group in np.argsort(-probabilities[:k], kind="stable")[:TAGS]:
        if probabilities[group] < MIN_PROBABILITY:
            break
        text = taxonomy.coarse_name(group)
        if members := taxonomy.fine_indices(group):
            fine = max(members, key=lambda index: probabilities[k + index])
            name, probability = label_name(taxonomy.fine[fine]), probabilities[k + fine]
            if name != text and probability >= MIN_PROBABILITY:
                text += f" ({name} {probability:.2f})"
        tags.append((text, float(probabilities[group])))
    return tags


def spectrogram(path: Path, seconds: float) -> tuple[np.ndarray, int]:
    """Return the log-mel spectrogram of a recording [shape=(96, columns), -70 to 0 dB] and its sample rate.

    Recordings may have any length: each of at most a thousand columns is the mean over a block.
    """
    with open_recording(path) as file:
        rate = file.sample_rate
        step = max(N_FFT, math.ceil(seconds * rate / COLUMNS))
        pieces = [
            mel_spectrogram(
                np.pad(block, (0, max(0, N_FFT - len(block)))), hann_window(N_FFT),
                sparse_mel_filter_bank(rate, N_FFT, BANDS), n_fft=N_FFT, hop_length=N_FFT // 2,
            ).mean(axis=1)
            for block in file.blocks(step)
        ]  # fmt: skip
    power = np.stack(pieces, axis=1)
    loudest = power.max() or 1.0  # avoids division by zero for silence
    return 10 * np.log10(np.maximum(power / loudest, 10 ** (-RANGE_DB / 10))), rate
