"""The leaderboard's pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ust.annotations.taxonomy import Taxonomy
from ust.scores.evaluation import Evaluation

LEVELS = ("coarse", "fine")
MARKERS, HATCHES = "os^D", ("", "//", "..", "xx")  # another for every ten colours


def cost_figure(rows: list[dict[str, Any]]) -> Figure:
    """Micro AUPRC of both levels against the minutes of training; the bars are the range over seeds."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    for axis, level in zip(figure.subplots(1, 2), LEVELS, strict=True):
        for number, row in enumerate(rows):
            value = row[f"{level}_micro_auprc"]
            if value is None:
                continue
            low, high = row[f"{level}_micro_auprc_range"]
            minutes = max(row["train_minutes"], 0.01)
            axis.errorbar(
                minutes,
                value,
                [[max(value - low, 0)], [max(high - value, 0)]],
                fmt=MARKERS[number // 10 % len(MARKERS)],
                color=f"C{number % 10}",
                capsize=3,
                label=f"{row['system']}: {row['ms_per_clip']:.0f} ms a clip",
            )
        axis.set(xscale="log", xlabel="training [min]", ylabel=f"{level} micro AUPRC")
        axis.grid(alpha=0.3)
    handles, labels = axis.figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def classes_figure(evaluations: Mapping[str, list[Evaluation]], taxonomy: Taxonomy) -> Figure:
    """AUPRC of each coarse class that there is, a bar for each system, the mean over seeds."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    axis = figure.subplots()
    first = next(iter(evaluations.values()))[0]
    positives = first.scores("coarse").class_positives
    names = [name for name, count in positives.items() if count]
    width = 0.8 / len(evaluations)
    for number, (system, of_seeds) in enumerate(evaluations.items()):
        areas = np.mean([[e.scores("coarse").class_auprc[n] for n in names] for e in of_seeds], axis=0)
        places = np.arange(len(names)) + (number - (len(evaluations) - 1) / 2) * width
        hatch = HATCHES[number // 10 % len(HATCHES)]
        axis.bar(places, areas, width, label=system, color=f"C{number % 10}", hatch=hatch)
    broken = [name.replace("-", "-\n") for name in names]
    ticks = [f"{text}\n({positives[name]})" for text, name in zip(broken, names, strict=True)]
    axis.set_xticks(range(len(names)), ticks)
    axis.set(ylabel="coarse AUPRC", ylim=(0, 1))
    axis.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    return figure
