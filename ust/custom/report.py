"""The report of a custom tagger: a self-contained HTML page."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ust.custom.training import TrainingResult
from ust.datasets.collection import Collection
from ust.evaluation.calibration import Calibration
from ust.evaluation.curves import reliability
from ust.models.checkpoints import provenance_warning
from ust.reports.media import embed_clip, read_clip, render_svg
from ust.util.documents import render_template


def render_report(
    name: str,
    collection: Collection,
    result: TrainingResult,
    metrics: dict[str, Any],
    details: dict[str, Any],
    mistakes: int,
) -> str:
    """Render the report as one HTML file without external resources."""
    fine = set(result.taxonomy.names[len(result.taxonomy.coarse) :])
    rows = [row | {"label": label, "fine": label in fine} for label, row in details["labels"].items()]
    return render_template(
        Path(__file__).parent / "report.html.jinja",
        html=True,
        name=name,
        metrics=metrics,
        details=details,
        warning=provenance_warning(result.model["metadata"]),
        levels=result.taxonomy.levels,
        splits=list(result.evaluations),
        rows=rows,
        curve=None if result.curve.empty else _plot_learning_curve(result.curve, metrics["twice_the_clips"]),
        reliability=_plot_reliability(result),
        findings=_illustrate_mistakes(collection, result, mistakes),
    )


def find_mistakes(
    labels: pd.DataFrame, predicted: pd.DataFrame, thresholds: dict[str, float], count: int
) -> list[dict[str, Any]]:
    """Return the most confident mistakes at the thresholds of the labels, at most one for each clip."""
    mistakes: dict[str, dict[str, Any]] = {}
    names = list(thresholds)
    values, p = labels[names].to_numpy(), predicted[names].to_numpy()
    true = values > 0.5
    wrong = ((p >= np.array(list(thresholds.values()))) != true) & ~np.isnan(values)
    confidence = np.where(wrong, np.where(true, 1 - p, p), -1.0)
    for position in np.argsort(-confidence, axis=None, kind="stable")[: wrong.sum()]:
        row, column = np.unravel_index(position, wrong.shape)
        clip, label = str(predicted.index[row]), names[column]
        mistake = {
            "clip": clip, "label": label, "kind": "miss" if true[row, column] else "false alarm",
            "probability": float(p[row, column]), "threshold": thresholds[label],
        }  # fmt: skip
        mistakes.setdefault(clip, mistake)
    return list(mistakes.values())[:count]


def _illustrate_mistakes(collection: Collection, result: TrainingResult, count: int) -> list[dict[str, Any]]:
    """Return mistakes of the out-of-fold predictions with pictures and sounds."""
    stored = result.model["metadata"].get("thresholds", {})
    names = dict(zip(result.taxonomy.labels, result.taxonomy.names, strict=True))
    predicted = result.predicted["train"]
    thresholds = {label: stored.get(label, 0.5) for label in names}
    findings = []
    for mistake in find_mistakes(result.labels.loc[predicted.index], predicted, thresholds, count):
        media = embed_clip(read_clip(collection.clip_path(mistake["clip"])))
        findings.append(mistake | {"label": names[mistake["label"]]} | media)
    return findings


def _plot_learning_curve(curve: pd.DataFrame, extrapolated: float | None) -> str:
    """Plot the learning curve and its extrapolation to twice the clips as SVG."""

    def draw(axes: Axes) -> None:
        mean = curve.groupby("clips")["score"].mean()
        axes.plot(curve["clips"], curve["score"], ".", color="C0", alpha=0.5, label="a random subset")
        axes.plot(mean.index, mean, color="C0", label="mean")
        if extrapolated is not None:
            last = mean.index[-1]
            axes.plot([last, 2 * last], [mean.iloc[-1], extrapolated], "--", color="C1")
            axes.plot(2 * last, extrapolated, "o", color="C1", mfc="none", label="extrapolated")
        axes.set(xscale="log", xlabel="training clips", ylabel="micro AUPRC, out of fold")
        axes.set_xticks([*mean.index, *([2 * mean.index[-1]] if extrapolated is not None else [])])
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_formatter("")
        axes.legend(framealpha=0)

    return render_svg(draw, "curve")


def _plot_reliability(result: TrainingResult) -> str:
    """Plot the reliability of the out-of-fold predictions, before and after calibration, as SVG."""
    evaluation = result.evaluations["train"]
    level = evaluation.taxonomy.levels[0]
    truth, calibrated = evaluation.truth[level], evaluation.predicted[level]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, label="ideal")
        content = result.model["metadata"].get("calibration")
        names = evaluation.taxonomy.fine if level == "fine" else evaluation.taxonomy.coarse
        curves = {"calibrated" if content else "not calibrated": calibrated}
        if content:
            calibration = Calibration.from_dict(content).select_labels(result.model["labels"], names)
            curves["before calibration"] = calibration.invert(calibrated)
        for name, predicted in curves.items():
            table = reliability(truth, predicted)
            axes.plot(table["predicted"], table["observed"], marker=".", label=name)
        axes.set(xlabel="predicted probability", ylabel="share of positives", xlim=(0, 1), ylim=(0, 1))
        axes.legend(framealpha=0)

    return render_svg(draw, "reliability")
