"""Write the report page: figures, learning curves, and each system's mistakes and hits to see and to hear."""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from ust.annotations import GROUND_TRUTH, read_annotations
from ust.audio import read_clip
from ust.clips import SAMPLE_RATE
from ust.console import done, parse, progress, run
from ust.csvs import read_csv
from ust.features import ORIGINAL, open_features
from ust.files import read_json, replacing
from ust.labels import read_labels
from ust.predictions import read_predictions
from ust.report.findings import Finding, find, votes, within
from ust.report.media import chart_svg, clip_mp3, mel_ticks, spectrogram_png
from ust.report.page import data_uri, render
from ust.report.summary import classes, results
from ust.taxonomy import Taxonomy, read_taxonomy

# Column, label, and whether it is drawn for networks of all labels or for those that watch a validation loss.
CHARTS = (
    ("loss", "training loss", "flat"),
    ("coarse", "coarse micro AUPRC", "flat"),
    ("fine", "fine micro AUPRC", "flat"),
    ("lr", "learning rate", "flat"),
    ("validation_loss", "validation loss", "other"),
)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.report", description=__doc__)
    parser.add_argument("out", type=Path, help="HTML file to write")
    parser.add_argument("--systems", nargs="+", required=True, help="names of the predictions and metrics")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="folder of SYSTEM.csv, train/SYSTEM.csv"
    )
    parser.add_argument("--metrics", type=Path, required=True, help="folder of SYSTEM.json")
    parser.add_argument("--training", type=Path, nargs="+", required=True, help="learning curves of train")
    parser.add_argument("--logmel", type=Path, required=True, help="HDF5 of the stage extract_logmel")
    parser.add_argument("--audio", type=Path, required=True, help="folder with a folder per split")
    parser.add_argument("--labels", type=Path, required=True, help="labels.csv")
    parser.add_argument("--annotations", type=Path, required=True, help="annotations.csv")
    parser.add_argument("--taxonomy", type=Path, required=True, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("--clips", type=int, default=80, help="to put into the page at most, default 80")
    parser.add_argument("--mistakes", type=int, default=3, help="of a system and class, default 3")
    parser.add_argument("--hits", type=int, default=2, help="of a system and class, default 2")
    return parse(parser, writes=["out"])


def learning_curves(folders: list[Path]) -> dict[str, pd.DataFrame]:
    """The curves of each network, by system, and by node of a hierarchy."""
    curves = {}
    for plots in sorted(plots for folder in folders for plots in folder.glob("**/plots/metrics")):
        tables = [read_csv(path, sep="\t") for path in sorted(plots.glob("*.tsv"))]
        (folder,) = (folder for folder in folders if plots.is_relative_to(folder))
        name = str(plots.parent.parent.relative_to(folder.parent))
        merged = tables[0]
        for table in tables[1:]:
            merged = merged.merge(table, on="step")
        curves[name] = merged
    return curves


def clip_content(
    clip: str, path: Path, logmel: np.ndarray, truth: pd.Series, annotations: pd.DataFrame,
    predicted: dict[str, pd.DataFrame], taxonomy: Taxonomy,
) -> dict:  # fmt: skip
    """What the page holds of a clip."""
    labels = list(taxonomy.labels)
    return {
        "image": data_uri(spectrogram_png(logmel), "image/png"),
        "sound": data_uri(clip_mp3(read_clip(path, SAMPLE_RATE), SAMPLE_RATE), "audio/mpeg"),
        "votes": votes(annotations, clip, taxonomy),
        "truth": [bool(value > 0.5) for value in truth[labels]],
        "predicted": {
            system: [round(float(p), 3) for p in table.loc[clip, labels]]
            for system, table in predicted.items()
        },
    }


def main() -> None:
    """Write one page that needs nothing else."""
    args = arguments()
    taxonomy = read_taxonomy(args.taxonomy)
    annotations = read_annotations(args.annotations, taxonomy)
    labels = read_labels(args.labels, taxonomy)
    metrics = {name: read_json(args.metrics / f"{name}.json", made_by="evaluate") for name in args.systems}
    about = metrics[args.systems[0]]["rests_on"]
    split = about["split"]

    findings: list[Finding] = []
    predicted: dict[str, dict[str, pd.DataFrame]] = {}
    for part, folder in ((split, args.predictions), ("train", args.predictions / "train")):
        known = labels[labels["split"] == part]
        for system in args.systems:
            table, _ = read_predictions(folder / f"{system}.csv", list(known.index), taxonomy)
            predicted.setdefault(part, {})[system] = table
            some = (args.mistakes, args.hits) if part == split else (1, 0)
            findings += find(system, part, known, table, taxonomy, mistakes=some[0], hits=some[1])
    findings = within(findings, args.clips)

    clips = {}
    with open_features(args.logmel, "logmel") as logmel:
        rate = int(logmel.attributes["sample_rate"])
        row_of = {clip: row for row, clip in enumerate(logmel.clip) if logmel.variant[row] == ORIGINAL}
        chosen = sorted({finding.clip for finding in findings})
        for clip in progress(chosen, total=len(chosen), description="clips"):
            part = labels.loc[clip, "split"]
            picture = logmel[np.array([row_of[clip]])][0]
            path = args.audio / part / clip
            clips[clip] = clip_content(
                clip, path, picture, labels.loc[clip], annotations, predicted[part], taxonomy
            )

    truth = annotations[(annotations["split"] == split) & (annotations["annotator_id"] == GROUND_TRUTH)]
    prevalence = {
        taxonomy.coarse_name(group): float((truth[label] == 1).mean())
        for group, label in enumerate(taxonomy.coarse)
    }
    curves = learning_curves(args.training)
    flat = {name: table for name, table in curves.items() if "coarse" in table}
    other = {
        name: table
        for name, table in curves.items()
        if name not in flat and ("/" not in name or name.endswith("/coarse"))
    }
    page = render(
        about={
            "source": about.get("data_source", "unknown data"),
            "split": split,
            "clips": about["clips"],
            "vggish": next((m["rests_on"].get("vggish_weights") for m in metrics.values()
                            if "vggish_weights" in m["rests_on"]), "no"),
        },
        results=results(metrics),
        classes=classes(metrics, prevalence),
        charts=[
            {"label": label, "svg": chart_svg(flat if kind == "flat" else other, column, label)}
            for column, label, kind in CHARTS
        ],
        labels=taxonomy.coarse,
        systems=args.systems,
        chosen=max(args.systems, key=lambda name: metrics[name]["coarse"]["micro_auprc"]),
        splits=sorted({finding.split for finding in findings}),
        data={
            "labels": taxonomy.labels,
            "systems": args.systems,
            "ticks": mel_ticks(rate),
            "findings": [asdict(finding) | {"confidence": finding.confidence} for finding in findings],
            "clips": clips,
        },
    )  # fmt: skip
    with replacing(args.out) as partial:
        partial.write_text(page, "utf-8")
    done(
        "%s: %d findings in %d clips, %.1f MB", args.out, len(findings), len(clips), len(page.encode()) / 1e6
    )


if __name__ == "__main__":
    run(main)
