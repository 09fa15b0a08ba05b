"""What the page holds: of each clip, and in all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.reading import GROUND_TRUTH
from ust.annotations.taxonomy import Taxonomy
from ust.audio.clips import SAMPLE_RATE
from ust.features.logmel import logmel
from ust.page.findings import Finding, votes
from ust.page.media import chart_svg, clip_mp3, mel_ticks, spectrogram_png
from ust.page.page import data_uri, render
from ust.page.summary import classes, results

# Column, label, and whether it is drawn for networks of all labels or for those that watch a validation loss.
CHARTS = (
    ("loss", "training loss", "flat"),
    ("coarse", "coarse micro AUPRC", "flat"),
    ("fine", "fine micro AUPRC", "flat"),
    ("lr", "learning rate", "flat"),
    ("validation_loss", "validation loss", "other"),
)


def clip_content(
    clip: str,
    samples: np.ndarray,
    truth: pd.Series,
    annotations: pd.DataFrame,
    predicted: Mapping[str, pd.DataFrame],
    taxonomy: Taxonomy,
) -> dict[str, Any]:
    """What the page holds of a clip.

    Parameters
    ----------
    clip : str
    samples : numpy.ndarray [shape=(n,)]
        At 44.1 kHz.
    truth : pandas.Series
        By label.
    annotations : pandas.DataFrame
    predicted : mapping of str to pandas.DataFrame
        By system, probabilities by clip and label.
    taxonomy : Taxonomy
    """
    labels = list(taxonomy.labels)
    # Computed here, whatever the systems take: a page needs no feature file.
    spectrogram = logmel(samples, sample_rate=SAMPLE_RATE, n_fft=2048, hop_length=512, n_mels=128)
    return {
        "image": data_uri(spectrogram_png(spectrogram), "image/png"),
        "sound": data_uri(clip_mp3(samples, SAMPLE_RATE), "audio/mpeg"),
        "votes": votes(annotations, clip, taxonomy),
        "truth": [bool(value > 0.5) for value in truth[labels]],
        "predicted": {
            system: [round(float(p), 3) for p in table.loc[clip, labels]]
            for system, table in predicted.items()
        },
    }


def doubtful_content(row: pd.Series, samples: np.ndarray) -> dict[str, Any]:
    """What the page holds of a label to listen to, a row of `ust.scores.label_quality.doubtful`.

    Parameters
    ----------
    row : pandas.Series
    samples : numpy.ndarray [shape=(n,)]
        The clip's, at 44.1 kHz.
    """
    return {
        "label": row["label"],
        "clip": row["audio_filename"],
        "heard": int(row["heard"]),
        "asked": int(row["asked"]),
        "posterior": float(row["posterior"]),
        "sound": data_uri(clip_mp3(samples, SAMPLE_RATE), "audio/mpeg"),
    }


def page(
    metrics: Mapping[str, dict[str, Any]],
    findings: list[Finding],
    clips: Mapping[str, dict[str, Any]],
    history: pd.DataFrame,
    annotations: pd.DataFrame,
    taxonomy: Taxonomy,
    *,
    doubtful: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page as HTML.

    Parameters
    ----------
    metrics : mapping of str to dict
        Of the stage evaluate, by system.
    findings : list of Finding
    clips : mapping of str to dict
        What `clip_content` gives of each clip that is found.
    history : pandas.DataFrame
        Learning curves: ``system, epoch`` and figures.
    annotations : pandas.DataFrame
    taxonomy : Taxonomy
    doubtful : sequence of mapping
        What `doubtful_content` gives of labels to listen to.
    """
    systems = list(metrics)
    about = metrics[systems[0]]["rests_on"]
    weights = [m["rests_on"]["vggish_weights"] for m in metrics.values() if "vggish_weights" in m["rests_on"]]
    networks = history.groupby("system", sort=True)
    curves = {name: table.dropna(axis="columns", how="all") for name, table in networks}
    of_kind = {"flat": {name: table for name, table in curves.items() if "coarse" in table}}
    of_kind["other"] = {
        name: table
        for name, table in curves.items()
        if name not in of_kind["flat"] and ("/" not in name or name.endswith("/root"))
    }
    return render(
        about={
            "source": about.get("data_source", "unknown data"),
            "split": about["split"],
            "clips": about["clips"],
            "vggish": weights[0] if weights else "no",
        },
        results=results(metrics),
        classes=classes(metrics, prevalence(annotations, about["split"], taxonomy)),
        charts=[
            {"label": label, "svg": chart_svg(of_kind[kind], column, label)} for column, label, kind in CHARTS
        ],
        labels=taxonomy.coarse,
        doubtful=doubtful,
        systems=systems,
        chosen=max(systems, key=lambda name: metrics[name]["coarse"]["micro_auprc"]),
        splits=sorted({finding.split for finding in findings}),
        data={
            "labels": taxonomy.labels,
            "systems": systems,
            "ticks": mel_ticks(SAMPLE_RATE),
            "findings": [asdict(finding) | {"confidence": finding.confidence} for finding in findings],
            "clips": clips,
        },
    )


def prevalence(annotations: pd.DataFrame, split: str, taxonomy: Taxonomy) -> dict[str, float]:
    """By coarse name, the share of a split's clips with ground truth that have it."""
    rows = annotations[(annotations["split"] == split) & (annotations["annotator_id"] == GROUND_TRUTH)]
    return {
        taxonomy.coarse_name(group): float((rows[label] == 1).mean())
        for group, label in enumerate(taxonomy.coarse)
    }
