"""Output formats for tags: a table for the terminal, CSV, JSON, and label tracks for Audacity."""

import csv
import io
import json

import numpy as np

from ust.annotations.taxonomy import Taxonomy, label_name
from ust.tagging.tagger import Window

BAR_WIDTH = 20  # characters
TIMELINE_WIDTH = 60  # characters
EIGHTHS, LEVELS = " ▏▎▍▌▋▊▉█", " ▁▂▃▄▅▆▇█"
MIN_FINE_PROBABILITY = 0.1  # the table omits fine labels that stay below
MAX_COARSE, MOST_PROBABLE = 50, 20  # a table of more than 50 coarse labels lists only the 20 most probable

TaggedRecordings = dict[str, list[Window]]
Threshold = float | np.ndarray  # of all labels, or of each


def tags_table(recordings: TaggedRecordings, taxonomy: Taxonomy, threshold: Threshold) -> str:
    """Format tags for the terminal: each label's highest probability and, for several windows, a timeline.

    A tick marks the labels that reach their threshold. Of more than 50 coarse labels, only the 20 most
    probable are listed.
    """
    thresholds = _label_thresholds(threshold, taxonomy)
    tables = [_format_recording(name, windows, taxonomy, thresholds) for name, windows in recordings.items()]
    return "\n\n".join(tables) + "\n"


def _label_thresholds(threshold: Threshold, taxonomy: Taxonomy) -> np.ndarray:
    """Return the threshold of each label in float32, as the probabilities are."""
    return np.broadcast_to(np.float32(threshold), len(taxonomy.labels))


def _format_recording(name: str, windows: list[Window], taxonomy: Taxonomy, thresholds: np.ndarray) -> str:
    probabilities = np.stack([window.probabilities for window in windows])
    highest = probabilities.max(axis=0)
    k, several = len(taxonomy.coarse), len(windows) > 1
    rows: list[tuple[str, int]] = []  # text and column of each label
    for group in np.argsort(-highest[:k], kind="stable")[: MOST_PROBABLE if k > MAX_COARSE else k]:
        rows.append((taxonomy.coarse_name(group), group))
        for index in sorted(taxonomy.fine_indices(group), key=lambda index: -highest[k + index]):
            if highest[k + index] >= MIN_FINE_PROBABILITY:
                rows.append(("  " + label_name(taxonomy.fine[index]), k + index))
    title = f"{name}  {_format_duration(windows[-1].end)}"
    lines = [title + (f", {len(windows)} windows: maximum and timeline of each tag" if several else "")]
    for text, column in rows:
        mark = "✓" if highest[column] >= thresholds[column] else " "
        line = f"{mark} {text:<42} {highest[column]:.2f} {bar(highest[column])}"
        lines.append((line + f" {timeline(probabilities[:, column])}" if several else line).rstrip())
    return "\n".join(lines)


def bar(value: float) -> str:
    """Draw a probability as a horizontal bar of `BAR_WIDTH` characters.

    Examples
    --------
    >>> bar(0.51)
    '██████████▎         '
    """
    full, eighths = divmod(round(float(value) * BAR_WIDTH * 8), 8)
    return ("█" * full + (EIGHTHS[eighths] if full < BAR_WIDTH else "")).ljust(BAR_WIDTH)


def timeline(values: np.ndarray) -> str:
    """Draw probabilities over time as at most `TIMELINE_WIDTH` vertical bars.

    Examples
    --------
    >>> timeline(np.array([0.0, 0.5, 1.0]))
    ' ▄█'
    """
    sections = np.array_split(values, min(TIMELINE_WIDTH, len(values)))
    return "".join(LEVELS[round(float(section.max()) * 8)] for section in sections)


def _format_duration(seconds: float) -> str:
    minutes, remainder = divmod(seconds, 60)
    return f"{minutes:.0f}:{remainder:04.1f}"


def submission_csv(recordings: TaggedRecordings, taxonomy: Taxonomy) -> str:
    """Format tags as CSV in the official submission layout; own classes have their names as columns.

    If any recording has several windows, each window is a row, and ``start`` and ``end`` in seconds follow
    the labels.
    """
    k = len(taxonomy.coarse)
    several = any(len(windows) > 1 for windows in recordings.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    times = ["start", "end"] if several else []
    writer.writerow(["audio_filename", *taxonomy.names[k:], *taxonomy.names[:k], *times])
    for name, windows in recordings.items():
        for window in windows:
            p = [f"{value:.6f}" for value in window.probabilities]
            position = [f"{window.start:.3f}", f"{window.end:.3f}"] if several else []
            writer.writerow([name, *p[k:], *p[:k], *position])
    return text.getvalue()


def tags_json(recordings: TaggedRecordings, taxonomy: Taxonomy, threshold: Threshold) -> str:
    """Format tags as a JSON list of recordings and their windows: probabilities by label, labels present."""
    thresholds = _label_thresholds(threshold, taxonomy)
    content = [
        {
            "audio_filename": name,
            "windows": [
                {
                    "start": round(window.start, 3),
                    "end": round(window.end, 3),
                    "probabilities": {
                        label: round(float(value), 6)
                        for label, value in zip(taxonomy.names, window.probabilities, strict=True)
                    },
                    "present": [
                        taxonomy.names[index] for index in np.flatnonzero(window.probabilities >= thresholds)
                    ],
                }
                for window in windows
            ],
        }
        for name, windows in recordings.items()
    ]
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def audacity_labels(windows: list[Window], taxonomy: Taxonomy, threshold: Threshold) -> str:
    """Format the events of a recording as an Audacity label track."""
    events = sorted(
        (start, end, f"{label} {highest:.2f}")
        for label, start, end, highest in find_events(windows, taxonomy, threshold)
    )
    return "".join(f"{start:.6f}\t{end:.6f}\t{text}\n" for start, end, text in events)


def find_events(
    windows: list[Window], taxonomy: Taxonomy, threshold: Threshold
) -> list[tuple[str, float, float, float]]:
    """Find the sections of a recording in which a label reaches a threshold.

    Parameters
    ----------
    windows : list of Window
        The windows of one recording, in order.
    taxonomy : Taxonomy
        The labels, in the order of the probabilities.
    threshold : float or numpy.ndarray [shape=(labels,)]
        Probability from which a window counts.

    Returns
    -------
    list of tuple
        Name of the label, start and end in seconds, and highest probability of each event. Windows that
        touch or overlap are joined into one event.

    Examples
    --------
    >>> taxonomy = Taxonomy(coarse=("1_siren",), fine=(), group=())
    >>> windows = [Window(start, start + 10.0, np.array([p])) for start, p in ((0.0, 0.6), (5.0, 0.75))]
    >>> find_events(windows, taxonomy, 0.5)
    [('siren', 0.0, 15.0, 0.75)]
    """
    events = []
    thresholds = _label_thresholds(threshold, taxonomy)
    for index, name in enumerate(taxonomy.names):
        merged: list[list[float]] = []
        for window in windows:
            if window.probabilities[index] < thresholds[index]:
                continue
            value = float(window.probabilities[index])
            if merged and window.start <= merged[-1][1]:
                merged[-1][1] = window.end
                merged[-1][2] = max(merged[-1][2], value)
            else:
                merged.append([window.start, window.end, value])
        events += [(name, start, end, highest) for start, end, highest in merged]
    return events
