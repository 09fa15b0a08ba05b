"""Write the report page: metrics, learning curves, and clips that each system tagged wrongly or rightly."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages import run_stage
from ust.cli.console import log_done, parse_args, progress


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.page", description=__doc__)
    parser.add_argument("out", type=Path, help="HTML file to write")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="folder of CHECKPOINT.csv, train/CHECKPOINT.csv"
    )
    parser.add_argument("--metrics", type=Path, required=True, help="folder of CHECKPOINT.json")
    parser.add_argument("--history", type=Path, required=True, help="folder of SYSTEM.csv of the stage train")
    parser.add_argument("--audio", type=Path, required=True, help="folder with a folder per split")
    parser.add_argument("--labels", type=Path, required=True, help="CSV of the stage aggregate_labels")
    parser.add_argument("--annotations", type=Path, required=True, help="annotations.csv")
    parser.add_argument("--taxonomy", type=Path, required=True, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("--doubtful", type=Path, required=True, help="CSV of the stage label_quality")
    parser.add_argument("--clips", type=int, default=80, help="most clips on the page, default 80")
    parser.add_argument("--mistakes", type=int, default=3, help="mistakes per system and class, default 3")
    parser.add_argument("--hits", type=int, default=2, help="hits per system and class, default 2")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    return parse_args(parser, writes=["out"], argv=argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Write one self-contained HTML page."""
    args = parse_arguments(argv)

    from ust.annotations.annotations import read_annotations, read_coarse_mode
    from ust.annotations.labels import read_labels
    from ust.annotations.taxonomy import read_taxonomy
    from ust.audio.recordings import SAMPLE_RATE, load_audio
    from ust.evaluation.predictions import read_predictions
    from ust.reports.page import (
        Finding,
        clip_content,
        doubtful_content,
        find_examples,
        limit_clips,
        render_report,
    )
    from ust.reports.tables import combine_histories
    from ust.util.documents import read_json, read_yaml
    from ust.util.files import write_text
    from ust.util.tables import read_csv

    params = read_yaml(args.params)
    systems = list(params["checkpoints"])
    trained = [*params["systems"], *params["hierarchies"], *params["pretrained"]]
    history = combine_histories([args.history / f"{name}.csv" for name in trained])
    taxonomy = read_taxonomy(args.taxonomy)
    annotations = read_annotations(args.annotations, taxonomy, read_coarse_mode(args.params))
    labels = read_labels(args.labels, taxonomy)
    metrics = {name: read_json(args.metrics / f"{name}.json", made_by="evaluate") for name in systems}
    split = metrics[systems[0]]["provenance"]["split"]

    findings: list[Finding] = []
    predicted = {}
    for part, folder in ((split, args.predictions), ("train", args.predictions / "train")):
        known = labels[labels["split"] == part]
        for system in systems:
            table, _ = read_predictions(folder / f"{system}.csv", list(known.index), taxonomy)
            predicted.setdefault(part, {})[system] = table
            mistakes, hits = (args.mistakes, args.hits) if part == split else (1, 0)
            findings += find_examples(system, part, known, table, taxonomy, mistakes=mistakes, hits=hits)
    findings = limit_clips(findings, args.clips)

    clips = {}
    chosen = sorted({finding.clip for finding in findings})
    for clip in progress(chosen, total=len(chosen), description="clips"):
        part = labels.loc[clip, "split"]
        samples = load_audio(args.audio / part / clip, SAMPLE_RATE)
        clips[clip] = clip_content(clip, samples, labels.loc[clip], annotations, predicted[part], taxonomy)
    doubtful_labels = read_csv(args.doubtful, hint="the stage label_quality makes it")
    doubtful = [
        doubtful_content(row, load_audio(args.audio / row["split"] / row["audio_filename"], SAMPLE_RATE))
        # Only the first clip of each label, so that the page stays small.
        for _, row in doubtful_labels.groupby("label", sort=False).head(1).iterrows()
    ]
    text = render_report(metrics, findings, clips, history, taxonomy, doubtful=doubtful)
    write_text(args.out, text)
    log_done(
        "%s: %d findings in %d clips, %.1f MB", args.out, len(findings), len(clips), len(text.encode()) / 1e6
    )


if __name__ == "__main__":
    run_stage(main)
