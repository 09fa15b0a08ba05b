"""The tags of recordings as text: tables for people, CSV, JSON, and label tracks for Audacity."""

import csv
import io
import json

import numpy as np

from ust.annotations.taxonomy import Taxonomy
from ust.tagging.tagger import Window

BAR, EIGHTHS = 20, " ▏▎▍▌▋▊▉█"
STEPS = " ▁▂▃▄▅▆▇█"
TIMELINE = 60  # characters
LEAST = 0.1  # probability of a fine tag worth a line

Tagged = dict[str, list[Window]]


def tags_table(recordings: Tagged, taxonomy: Taxonomy) -> str:
    """For each recording, how probable each tag is where it is most probable, and when."""
    return "\n\n".join(_recording(name, windows, taxonomy) for name, windows in recordings.items()) + "\n"


def _recording(name: str, windows: list[Window], taxonomy: Taxonomy) -> str:
    everything = np.stack([window.probabilities for window in windows])
    most = everything.max(axis=0)
    k = len(taxonomy.coarse)
    several = len(windows) > 1
    head = f"{name}  {_clock(windows[-1].end)}"
    lines = [head + (f", {len(windows)} windows: the highest of each tag, and its course" if several else "")]
    for group in np.argsort(-most[:k], kind="stable"):
        lines.append(_line(taxonomy.coarse_name(group), everything[:, group], several))
        fine = sorted(taxonomy.members(group), key=lambda index: -most[k + index])
        for index in fine:
            if most[k + index] >= LEAST:
                label = "  " + taxonomy.fine[index].split("_", 1)[1]
                lines.append(_line(label, everything[:, k + index], several))
    return "\n".join(lines)


def _line(label: str, values: np.ndarray, several: bool) -> str:
    most = values.max()
    line = f"  {label:<42} {most:.2f} {bar(most)}"
    return (line + f" {timeline(values)}" if several else line).rstrip()


def bar(value: float) -> str:
    """A bar of a probability.

    Examples
    --------
    >>> bar(0.51)
    '██████████▎         '
    """
    whole, rest = divmod(round(float(value) * BAR * 8), 8)
    return ("█" * whole + (EIGHTHS[rest] if whole < BAR else "")).ljust(BAR)


def timeline(values: np.ndarray) -> str:
    """Probabilities over time, the highest of each stretch where there are more than fit a line.

    Examples
    --------
    >>> timeline(np.array([0.0, 0.5, 1.0]))
    ' ▄█'
    """
    stretches = np.array_split(values, min(TIMELINE, len(values)))
    return "".join(STEPS[round(float(stretch.max()) * 8)] for stretch in stretches)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def submission_csv(recordings: Tagged, taxonomy: Taxonomy) -> str:
    """The official submission layout; start and end in seconds besides, where there are several windows."""
    k = len(taxonomy.coarse)
    several = any(len(windows) > 1 for windows in recordings.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    times = ["start", "end"] if several else []
    writer.writerow(["audio_filename", *taxonomy.fine, *taxonomy.coarse, *times])
    for name, windows in recordings.items():
        for window in windows:
            p = [f"{value:.6f}" for value in window.probabilities]
            place = [f"{window.start:.3f}", f"{window.end:.3f}"] if several else []
            writer.writerow([name, *p[k:], *p[:k], *place])
    return text.getvalue()


def as_json(recordings: Tagged, taxonomy: Taxonomy) -> str:
    """A list of recordings, each with its windows and their probabilities by label."""
    content = [
        {
            "audio_filename": name,
            "windows": [
                {
                    "start": round(window.start, 3),
                    "end": round(window.end, 3),
                    "probabilities": {
                        label: round(float(value), 6)
                        for label, value in zip(taxonomy.labels, window.probabilities, strict=True)
                    },
                }
                for window in windows
            ],
        }
        for name, windows in recordings.items()
    ]
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def audacity(windows: list[Window], taxonomy: Taxonomy, threshold: float) -> str:
    """A label track of Audacity's: start, end and label of every stretch over the threshold."""
    found = sorted(
        (start, end, f"{label} {most:.2f}")
        for label, start, end, most in events(windows, taxonomy, threshold)
    )
    return "".join(f"{start:.6f}\t{end:.6f}\t{text}\n" for start, end, text in found)


def events(
    windows: list[Window], taxonomy: Taxonomy, threshold: float
) -> list[tuple[str, float, float, float]]:
    """Every stretch of a recording over the threshold: label, start, end in seconds, highest probability.

    Windows that touch or overlap make one stretch.
    """
    found = []
    for index, label in enumerate(taxonomy.labels):
        stretches: list[list[float]] = []
        for window in windows:
            value = float(window.probabilities[index])
            if value < threshold:
                continue
            if stretches and window.start <= stretches[-1][1]:
                stretches[-1][1] = window.end
                stretches[-1][2] = max(stretches[-1][2], value)
            else:
                stretches.append([window.start, window.end, value])
        found += [(label, start, end, most) for start, end, most in stretches]
    return found
