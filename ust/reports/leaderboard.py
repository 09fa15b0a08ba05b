"""Leaderboard of several systems and seeds on one data set: metrics, confidence intervals and cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from ust.annotations.taxonomy import Taxonomy
from ust.evaluation.bootstrap import confidence_interval, draw_resamples
from ust.evaluation.evaluation import Evaluation, round_floats
from ust.util.config import Name, PositiveInt, Section, Seed
from ust.util.documents import markdown_table

LEADERBOARD_COLUMNS = ("coarse_micro_auprc", "fine_micro_auprc", "coarse_macro_auprc_present")
LEVELS = ("coarse", "fine")
MARKERS, HATCHES = "os^D", ("", "//", "..", "xx")  # the next one after every ten colours


class Leaderboard(Section):
    """Settings of the leaderboard, the section ``leaderboard`` of presets/leaderboard.yaml."""

    seeds: Annotated[list[Seed], Field(min_length=1)]
    bootstrap: Annotated[int, Field(ge=10)]
    against: Name  # the system that all others are compared with
    timed_clips: PositiveInt
    systems: Annotated[list[Name], Field(min_length=1)]  # rows of checkpoints


@dataclass(frozen=True)
class Entry:
    """The evaluations and the cost of one system."""

    evaluations: list[Evaluation]  # one for each seed, on the same clips
    cost: Mapping[str, float]  # train_minutes, ms_per_clip, parameters, megabytes

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that the system predicts."""
        return self.evaluations[0].levels


def leaderboard_rows(
    entries: Mapping[str, Entry], *, against: str, bootstrap: int, seed: int
) -> list[dict[str, Any]]:
    """Compute a row for each system, best first."""
    first = next(iter(entries.values())).evaluations[0]
    draws = list(draw_resamples(first.sensors, unit="clips", count=bootstrap, seed=seed))
    rows, resampled = [], {}
    for name, entry in entries.items():
        figures = [evaluation.headlines() for evaluation in entry.evaluations]
        row: dict[str, Any] = {"system": name}
        for column in LEADERBOARD_COLUMNS:
            level, _, metric = column.partition("_")
            known = level in entry.levels
            values = [metrics[f"{level}.{metric}"] for metrics in figures] if known else []
            row[column] = round_floats(float(np.mean(values))) if known else None
            row[f"{column}_range"] = round_floats([min(values), max(values)]) if known else None
        row |= {"seeds": len(figures), **entry.cost}
        rows.append(row)
        resampled[name] = {level: _resample_auprc(entry, level, draws) for level in entry.levels}
    rows.sort(key=lambda row: -sum(row[column] or 0 for column in LEADERBOARD_COLUMNS[:2]))
    for key, other in ((f"against_{against}", against), ("against_best", rows[0]["system"])):
        for row in rows:
            values, reference = resampled[row["system"]], resampled[other]
            row[key] = {
                level: round_floats(confidence_interval(values[level] - reference[level]))
                for level in LEVELS
                if level in values and level in reference
            }
    return rows


def _resample_auprc(entry: Entry, level: str, draws: list[np.ndarray]) -> np.ndarray:
    """Return micro AUPRC on each resample, averaged over seeds [shape=(draws,)]."""
    return np.mean(
        [e.bootstrap_metrics(draws, level)[f"{level}.micro_auprc"] for e in entry.evaluations], axis=0
    )


def recommend_system(rows: list[dict[str, Any]]) -> str:
    """Recommend a system in one sentence."""
    best = rows[0]
    not_worse = [
        row
        for row in rows[1:]
        if all(high >= 0 for _, high in row["against_best"].values()) and len(row["against_best"]) == 2
    ]
    faster = [row for row in not_worse if row["train_minutes"] < best["train_minutes"]]
    text = (
        f"Take {best['system']}: coarse / fine micro AUPRC {best['coarse_micro_auprc']:.3f} / "
        f"{best['fine_micro_auprc']:.3f} over {best['seeds']} seeds, {best['ms_per_clip']:.0f} ms a clip"
    )
    if not faster:
        return text + "; of the systems that are not significantly worse, none trains faster."
    fastest = min(faster, key=lambda row: row["train_minutes"])
    return text + (
        f"; {fastest['system']} is not significantly worse and trains in {fastest['train_minutes']:.1f} min."
    )


def leaderboard_markdown(rows: list[dict[str, Any]], against: str) -> str:
    """Format the rows as a Markdown table."""

    def interval_of(row: dict[str, Any], key: str) -> str:
        intervals = row[key]
        return " / ".join(
            f"[{intervals[level][0]:+.3f}, {intervals[level][1]:+.3f}]" if level in intervals else "–"
            for level in LEVELS
        )

    def spread(row: dict[str, Any], column: str) -> str:
        if row[column] is None:
            return "–"
        low, high = row[f"{column}_range"]
        return f"{row[column]:.3f} ({low:.3f} to {high:.3f})"

    scores = ("coarse micro AUPRC", "fine micro AUPRC", "coarse macro (present)")
    costs = ("train [min]", "ms a clip", "parameters", "MB")
    header = ("system", *scores, f"against {against}", "against the best", *costs)
    cells = [
        (
            f"`{row['system']}`",
            *(spread(row, column) for column in LEADERBOARD_COLUMNS),
            interval_of(row, f"against_{against}"),
            interval_of(row, "against_best"),
            f"{row['train_minutes']:.1f}",
            f"{row['ms_per_clip']:.0f}",
            f"{row['parameters']:,}",
            f"{row['megabytes']:.1f}",
        )
        for row in rows
    ]
    return markdown_table(header, cells) + "\n"


def cost_figure(rows: list[dict[str, Any]]) -> Figure:
    """Plot micro AUPRC of both levels against training minutes; error bars show the range over seeds."""
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
    """Plot the AUPRC of each coarse class with positives, one bar per system, averaged over seeds."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    axis = figure.subplots()
    first = next(iter(evaluations.values()))[0]
    positives = first.scores("coarse").class_positives
    names = [name for name, count in positives.items() if count]
    width = 0.8 / len(evaluations)
    for number, (system, seed_evaluations) in enumerate(evaluations.items()):
        areas = np.mean(
            [[e.scores("coarse").class_auprc[n] for n in names] for e in seed_evaluations], axis=0
        )
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
