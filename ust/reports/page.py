"""The report page: metrics, learning curves, and confident mistakes and hits of each system."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.taxonomy import Taxonomy
from ust.audio.recordings import SAMPLE_RATE
from ust.features.logmel import logmel
from ust.reports.media import chart_svg, clip_mp3, data_uri, mel_ticks, spectrogram_png
from ust.reports.tables import classes_table, results_table
from ust.util.documents import render_template

TEMPLATE = Path(__file__).with_name("page.html.jinja")
THRESHOLD = 0.5
# Column of the learning curve, axis label, and kind of network: "flat" for networks with scores by level,
# "other" for those with a validation loss.
CHARTS = (
    ("loss", "training loss", "flat"),
    ("coarse", "coarse micro AUPRC", "flat"),
    ("fine", "fine micro AUPRC", "flat"),
    ("lr", "learning rate", "flat"),
    ("validation_loss", "validation loss", "other"),
)


@dataclass(frozen=True)
class Finding:
    """A clip on which a system was right or wrong about a class.

    Attributes
    ----------
    rank : int
        Rank by confidence, from 0, among the mistakes or the hits of the same system, split and class.
    kind : str
        "false alarm", "miss" or "hit".
    probability : float
        Predicted probability of the class.
    """

    rank: int
    clip: str
    split: str
    system: str
    label: str
    kind: str
    probability: float

    @property
    def confidence(self) -> float:
        """Probability of the predicted outcome, from 1/2 to 1."""
        return 1 - self.probability if self.kind == "miss" else self.probability


def find_examples(
    system: str,
    split: str,
    labels: pd.DataFrame,
    predicted: pd.DataFrame,
    taxonomy: Taxonomy,
    *,
    mistakes: int,
    hits: int,
) -> list[Finding]:
    """Find the most confident mistakes and hits of a system."""
    findings = []
    for label in taxonomy.coarse:
        p = predicted[label].to_numpy(np.float64)
        values = labels[label].to_numpy(np.float64)
        true, predicted_positive = values > THRESHOLD, p > THRESHOLD
        confidence = np.where(predicted_positive, p, 1 - p)
        hit, labelled = true & predicted_positive, ~np.isnan(values)
        for candidates, limit in ((labelled & (true != predicted_positive), mistakes), (hit, hits)):
            rows = np.flatnonzero(candidates)
            # Ties are ordered by clip name.
            order = np.lexsort([labels.index[rows].to_numpy(str), -confidence[rows]])[:limit]
            for rank, row in enumerate(rows[order]):
                kind = "hit" if hit[row] else "miss" if true[row] else "false alarm"
                findings.append(
                    Finding(rank, str(labels.index[row]), split, system, label, kind, float(p[row]))
                )
    return findings


def limit_clips(findings: list[Finding], clips: int) -> list[Finding]:
    """Limit findings to a number of clips, in order of rank over all systems and classes."""
    ordered = sorted(findings, key=lambda f: (f.rank, -f.confidence, f.clip))
    selected = list(dict.fromkeys(finding.clip for finding in ordered))[:clips]
    return [finding for finding in findings if finding.clip in selected]


def count_votes(annotations: pd.DataFrame, clip: str, taxonomy: Taxonomy) -> list[dict[str, object]]:
    """Count how many of the asked annotators marked each coarse label in a clip, and add the ground truth."""
    rows = annotations[annotations["audio_filename"] == clip]
    people = rows[rows["annotator_id"] != GROUND_TRUTH]
    agreed = rows[rows["annotator_id"] == GROUND_TRUTH]
    return [
        {
            "label": label,
            "marked": int((people[label] == 1).sum()),
            "asked": int((people[label] != -1).sum()),
            "agreed": None if agreed.empty else int(agreed[label].iloc[0]),
        }
        for label in taxonomy.coarse
    ]


def clip_content(
    clip: str,
    samples: np.ndarray,
    truth: pd.Series,
    annotations: pd.DataFrame,
    predicted: Mapping[str, pd.DataFrame],
    taxonomy: Taxonomy,
) -> dict[str, Any]:
    """Build the page's data of a clip: spectrogram, sound, votes, ground truth and predictions."""
    labels = list(taxonomy.labels)
    # Computed here, so that the page needs no feature file.
    spectrogram = logmel(samples, sample_rate=SAMPLE_RATE, n_fft=2048, hop_length=512, n_mels=128)
    return {
        "image": data_uri(spectrogram_png(spectrogram), "image/png"),
        "sound": data_uri(clip_mp3(samples, SAMPLE_RATE), "audio/mpeg"),
        "votes": count_votes(annotations, clip, taxonomy),
        "truth": [bool(value > THRESHOLD) for value in truth[labels]],
        "predicted": {
            system: [round(float(p), 3) for p in table.loc[clip, labels]]
            for system, table in predicted.items()
        },
    }


def doubtful_content(row: pd.Series, samples: np.ndarray) -> dict[str, Any]:
    """Build the page's data of a label to review, a row of `doubtful_labels`."""
    return {
        "label": row["label"],
        "clip": row["audio_filename"],
        "marked": int(row["marked"]),
        "asked": int(row["asked"]),
        "posterior": float(row["posterior"]),
        "sound": data_uri(clip_mp3(samples, SAMPLE_RATE), "audio/mpeg"),
    }


def render_report(
    metrics: Mapping[str, dict[str, Any]],
    findings: list[Finding],
    clips: Mapping[str, dict[str, Any]],
    history: pd.DataFrame,
    taxonomy: Taxonomy,
    *,
    doubtful: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Render the page as HTML that loads nothing from other files."""
    systems = list(metrics)
    metadata = metrics[systems[0]]["provenance"]
    origins = [content["provenance"] for content in metrics.values()]
    weights = [origin["vggish_weights"] for origin in origins if "vggish_weights" in origin]
    networks = history.groupby("system", sort=True)
    curves = {name: table.dropna(axis="columns", how="all") for name, table in networks}
    # Of a hierarchy, only the curve of the root is shown, not those of its nodes for the coarse classes.
    flat = {name: table for name, table in curves.items() if "coarse" in table}
    other = {
        name: table
        for name, table in curves.items()
        if name not in flat and ("/" not in name or name.endswith("/root"))
    }
    return render_template(
        TEMPLATE,
        html=True,
        metadata={
            "source": metadata.get("data_source", "unknown data"),
            "split": metadata["split"],
            "clips": metadata["clips"],
            "vggish": weights[0] if weights else "no",
        },
        results=results_table(metrics),
        classes=classes_table(metrics),
        charts=[
            {"label": label, "svg": chart_svg(flat if kind == "flat" else other, column, label)}
            for column, label, kind in CHARTS
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
