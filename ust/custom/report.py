"""Clips to look at."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ust.audio.recordings import SAMPLE_RATE, load_audio
from ust.custom.learning_curve import expected_with_twice_the_clips
from ust.custom.project import SYSTEM
from ust.custom.training import POOL, Trained
from ust.datasets.collection import Collection
from ust.evaluation.calibration import Calibration
from ust.evaluation.curves import calibration_errors, reliability
from ust.evaluation.evaluation import detailed_metrics, headline_metrics
from ust.features.logmel import logmel
from ust.reports.media import clip_mp3, data_uri, render_svg, spectrogram_png
from ust.reports.page import find_examples
from ust.util.documents import render_template

SPECTROGRAM = {"n_fft": 1024, "hop_length": 512, "n_mels": 96}


def clip_spectrogram(samples: np.ndarray) -> bytes:
    """A picture of a clip of 44.1 kHz, as PNG."""
    return spectrogram_png(logmel(samples, sample_rate=SAMPLE_RATE, **SPECTROGRAM))


def figures(trained: Trained, *, bootstrap: int, seed: int) -> dict[str, Any]:
    """What stands in metrics.json.

    Returns
    -------
    dict
        ``train`` (out of fold) and, if there is such, ``validate``: the figures of the stage evaluate's
        details, calibration errors among them; ``clips`` by split; ``twice_the_clips``: what a learning curve
        gives for them (score, lowest, highest), or null.
    """
    found: dict[str, Any] = {}
    for split, evaluation in trained.evaluations.items():
        intervals = evaluation.intervals(count=bootstrap, seed=seed)
        thresholds = trained.model["about"].get("thresholds")
        found[split] = headline_metrics(evaluation, intervals) | detailed_metrics(
            evaluation, intervals, thresholds
        )
        found[split] |= calibration_errors(evaluation, trained.model)
    more = expected_with_twice_the_clips(trained.curve)
    counts = {split: len(table) for split, table in trained.predicted.items()}
    return found | {
        "clips": {"unlabelled" if split == POOL else split: count for split, count in counts.items()},
        "twice_the_clips": None if more is None else [round(value, 4) for value in more],
    }


def report(
    name: str, collection: Collection, trained: Trained, metrics: dict[str, Any], mistakes: int
) -> str:
    """The page as one HTML file that asks for nothing from outside.

    Parameters
    ----------
    name : str
        Of the tagger.
    collection : Collection
    trained : Trained
    metrics : dict
        What `figures` gives.
    mistakes : int
        Clips to show at most.
    """
    labels = list(trained.taxonomy.labels)
    counts = (trained.labels.loc[trained.predicted["train"].index, labels] > 0.5).sum()
    rows = []
    for label in labels:
        by_split = {split: metrics[split]["labels"][label] for split in trained.evaluations}
        rows.append(
            {
                "label": label,
                "fine": label in trained.taxonomy.fine,
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
        levels=trained.taxonomy.levels,
        splits=list(trained.evaluations),
        rows=rows,
        curve=None if trained.curve.empty else _curve(trained),
        reliability=_reliability(trained),
        findings=_findings(collection, trained, mistakes),
    )


def _findings(collection: Collection, trained: Trained, count: int) -> list[dict[str, Any]]:
    """The clips of which the tagger is most surely wrong, each once."""
    out_of_fold = trained.predicted["train"]
    labels = trained.labels.loc[out_of_fold.index]
    wrong = find_examples(SYSTEM, "train", labels, out_of_fold, trained.taxonomy, mistakes=count, hits=0)
    by_clip = {}
    for finding in sorted(wrong, key=lambda each: (-each.confidence, each.clip)):
        by_clip.setdefault(finding.clip, finding)
    found = []
    for finding in list(by_clip.values())[:count]:
        samples = load_audio(collection.clip_path(finding.clip), SAMPLE_RATE)
        found.append(
            {
                "clip": finding.clip,
                "label": finding.label,
                "kind": finding.kind,
                "probability": finding.probability,
                "picture": data_uri(clip_spectrogram(samples), "image/png"),
                "sound": data_uri(clip_mp3(samples, SAMPLE_RATE), "audio/mpeg"),
            }
        )
    return found


def _curve(trained: Trained) -> str:
    def draw(axes: Axes) -> None:
        for _, rows in trained.curve.groupby("seed"):
            axes.plot(rows["clips"], rows["score"], marker=".", alpha=0.7, color="C0")
        more = expected_with_twice_the_clips(trained.curve)
        if more is not None:
            last = trained.curve["clips"].max()
            middle, low, high = more
            axes.errorbar(2 * last, middle, [[middle - low], [high - middle]], fmt="o", mfc="none", capsize=3)
        axes.set(xscale="log", xlabel="clips that it learns from", ylabel="micro AUPRC, out of fold")
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_formatter("")

    return render_svg(draw, "curve")


def _reliability(trained: Trained) -> str:
    evaluation = trained.evaluations["train"]
    level = evaluation.taxonomy.levels[0]
    truth, after = evaluation.truth[level], evaluation.predicted[level]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="#888888", linewidth=1)
        content = trained.model["about"].get("calibration")
        names = evaluation.taxonomy.fine if level == "fine" else evaluation.taxonomy.coarse
        curves = {"calibrated" if content else "as it is": after}
        if content:
            own = Calibration.from_dict(content).select_labels(trained.model["labels"], names)
            curves["before"] = own.invert(after)
        for name, predicted in curves.items():
            table = reliability(truth, predicted)
            axes.plot(table["predicted"], table["observed"], marker=".", label=name)
        axes.set(xlabel="probability", ylabel="share that was there", xlim=(0, 1), ylim=(0, 1))
        axes.legend(framealpha=0)

    return render_svg(draw, "reliability")
