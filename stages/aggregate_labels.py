"""Aggregate the annotations of each clip to one label vector, by a rule of params.yaml."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages import run_stage
from ust.cli.console import log_done, parse_args


def main(argv: Sequence[str] | None = None) -> None:
    """Write split, audio_filename, then the labels, coarse first."""
    parser = argparse.ArgumentParser(prog="python -m stages.aggregate_labels", description=__doc__)
    parser.add_argument("labels", help="a row of labels in params.yaml")
    parser.add_argument("annotations", type=Path, help="annotations.csv")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="CSV file to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, writes=["out"], argv=argv)

    from ust.annotations.annotations import read_annotations, read_coarse_mode
    from ust.annotations.rules.registry import read_rule
    from ust.annotations.taxonomy import read_taxonomy
    from ust.evaluation.predictions import read_predictions
    from ust.features.store import read_embeddings
    from ust.util.tables import write_csv

    rule, settings = read_rule(args.params, args.labels)
    taxonomy = read_taxonomy(args.taxonomy)
    annotations = read_annotations(args.annotations, taxonomy, read_coarse_mode(args.params))
    inputs = {}
    if rule.needs_model_outputs:
        model_outputs = Path(settings.model_outputs)
        if model_outputs.suffix == ".csv":
            clips = annotations.groupby("audio_filename")["split"].first()
            train = list(clips.index[clips == "train"])
            inputs["predictions"], _ = read_predictions(model_outputs, train, taxonomy, others=clips.index)
        else:
            inputs["embeddings"] = read_embeddings(model_outputs)
    labels = rule.aggregate(annotations, taxonomy, settings, **inputs)
    write_csv(args.out, labels)
    clips = annotations.groupby("split")["audio_filename"].nunique()
    counts = labels["split"].value_counts().sort_index()
    texts = [
        f"{n} {split} clips" + (f" (verified, of {clips[split]})" if n < clips[split] else "")
        for split, n in counts.items()
    ]
    log_done("%s: %s", args.out, ", ".join(texts))


if __name__ == "__main__":
    run_stage(main)
