"""The report of a custom tagger: details.json and a self-contained HTML page."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ust.audio.recordings import SAMPLE_RATE, load_audio
from ust.custom.learning_curve import extrapolate_to_twice_the_clips
from ust.custom.project import SYSTEM
from ust.custom.training import UNLABELLED, TrainingResult
from ust.datasets.collection import Collection
from ust.evaluation.calibration import Calibration
from ust.evaluation.curves import calibration_errors, reliability
from ust.evaluation.evaluation import detailed_metrics
from ust.features.logmel import logmel
from ust.reports.media import clip_mp3, data_uri, render_svg, spectrogram_png
from ust.reports.page import find_examples
from ust.util.documents import render_template

SPECTROGRAM = {"n_fft": 1024, "hop_length": 512, "n_mels": 96}


def clip_spectrogram(samples: np.ndarray) -> bytes:
    """Draw the log-mel spectrogram of a clip at 44.1 kHz, as PNG."""
    return spectrogram_png(logmel(samples, sample_rate=SAMPLE_RATE, **SPECTROGRAM))


def compute_metrics(result: TrainingResult, *, bootstrap: int, seed: int) -> dict[str, Any]:
    """Compute the content of details.json.

    Returns
    -------
    dict
        ``train`` (out-of-fold predictions) and, if the split exists, ``validate``: the metrics of the stage
        evaluate and calibration errors. ``clips``: number of clips of each split. ``twice_the_clips``:
        extrapolated score with its range over seeds, or null.
    """
    metrics: dict[str, Any] = {}
    for split, evaluation in result.evaluations.items():
        intervals = evaluation.intervals(count=bootstrap, seed=seed)
        thresholds = result.model["about"].get("thresholds")
        metrics[split] = detailed_metrics(evaluation, intervals, thresholds)
        metrics[split] |= calibration_errors(evaluation, result.model)
    extrapolated = extrapolate_to_twice_the_clips(result.curve)
    counts = {split: len(table) for split, table in result.predicted.items()}
    return metrics | {
        "clips": {"unlabelled" if split == UNLABELLED else split: count for split, count in counts.items()},
        "twice_the_clips": None if extrapolated is None else [round(value, 4) for value in extrapolated],
    }


def render_report(
    name: str, collection: Collection, result: TrainingResult, metrics: dict[str, Any], mistakes: int
) -> str:
    """Render the report as one HTML file without external resources.

    Parameters
    ----------
    name : str
        Name of the tagger.
    collection : Collection
        The clips.
    result : TrainingResult
        The trained tagger and its predictions.
    metrics : dict
        As `compute_metrics` returns them.
    mistakes : int
        Largest number of misclassified clips to show.
    """
    labels = list(result.taxonomy.labels)
    counts = (result.labels.loc[result.predicted["train"].index, labels] > 0.5).sum()
    rows = []
    for label in labels:
        by_split = {split: metrics[split]["labels"][label] for split in result.evaluations}
        rows.append(
            {
                "label": label,
                "fine": label in result.taxonomy.fine,
                "clips": int(counts[label]),
                "threshold": by_split["train"].get("threshold"),
                "splits": [
                    (figure["average_precision"], figure.get("f1_at_threshold"))
                    for figure in by_split.values()
                ],
            }
        )
    return render_template(
        Path(__file__).parent / "report.html.jinja",
        html=True,
        name=name,
        metrics=metrics,
        levels=result.taxonomy.levels,
        splits=list(result.evaluations),
        rows=rows,
        curve=None if result.curve.empty else _curve(result),
        reliability=_reliability(result),
        findings=_findings(collection, result, mistakes),
    )


def _findings(collection: Collection, result: TrainingResult, count: int) -> list[dict[str, Any]]:
    """Return the most confident mistakes of the tagger, at most one for each clip."""
    out_of_fold = result.predicted["train"]
    labels = result.labels.loc[out_of_fold.index]
    wrong = find_examples(SYSTEM, "train", labels, out_of_fold, result.taxonomy, mistakes=count, hits=0)
    by_clip = {}
    for finding in sorted(wrong, key=lambda finding: (-finding.confidence, finding.clip)):
        by_clip.setdefault(finding.clip, finding)
    findings = []
    for finding in list(by_clip.values())[:count]:
        samples = load_audio(collection.clip_path(finding.clip), SAMPLE_RATE)
        findings.append(
            {
                "clip": finding.clip,
                "label": finding.label,
                "kind": finding.kind,
                "probability": finding.probability,
                "picture": data_uri(clip_spectrogram(samples), "image/png"),
                "sound": data_uri(clip_mp3(samples, SAMPLE_RATE), "audio/mpeg"),
            }
        )
    return findings


def _curve(result: TrainingResult) -> str:
    def draw(axes: Axes) -> None:
        for _, rows in result.curve.groupby("seed"):
            axes.plot(rows["clips"], rows["score"], marker=".", alpha=0.7, color="C0")
        extrapolated = extrapolate_to_twice_the_clips(result.curve)
        if extrapolated is not None:
            last = result.curve["clips"].max()
            middle, low, high = extrapolated
            axes.errorbar(2 * last, middle, [[middle - low], [high - middle]], fmt="o", mfc="none", capsize=3)
        axes.set(xscale="log", xlabel="training clips", ylabel="micro AUPRC, out of fold")
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_formatter("")

    return render_svg(draw, "curve")


def _reliability(result: TrainingResult) -> str:
    evaluation = result.evaluations["train"]
    level = evaluation.taxonomy.levels[0]
    truth, after = evaluation.truth[level], evaluation.predicted[level]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="#888888", linewidth=1)
        content = result.model["about"].get("calibration")
        names = evaluation.taxonomy.fine if level == "fine" else evaluation.taxonomy.coarse
        curves = {"calibrated" if content else "not calibrated": after}
        if content:
            calibration = Calibration.from_dict(content).select_labels(result.model["labels"], names)
            curves["before calibration"] = calibration.invert(after)
        for name, predicted in curves.items():
            table = reliability(truth, predicted)
            axes.plot(table["predicted"], table["observed"], marker=".", label=name)
        axes.set(xlabel="predicted probability", ylabel="share of positives", xlim=(0, 1), ylim=(0, 1))
        axes.legend(framealpha=0)

    return render_svg(draw, "reliability")
