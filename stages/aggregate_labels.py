"""Aggregate what the annotators said to one label vector per clip."""

import argparse
from pathlib import Path

from ust import params
from ust.annotations import read_annotations
from ust.console import done, parse, run
from ust.files import replacing
from ust.labels import aggregate, aggregate_any
from ust.taxonomy import read_taxonomy


def main() -> None:
    """Write labels.csv and labels_any.csv: split, audio_filename, then the labels, coarse first."""
    parser = argparse.ArgumentParser(prog="python -m stages.aggregate_labels", description=__doc__)
    parser.add_argument("annotations", type=Path, help="annotations.csv")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="labels.csv to write, by the report's rule")
    parser.add_argument("any", type=Path, help="labels_any.csv to write, by the challenge baseline's")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, writes=["out", "any"])
    (settings,) = params.load(args.params, "labels")

    taxonomy = read_taxonomy(args.taxonomy)
    annotations = read_annotations(args.annotations, taxonomy)
    clips = annotations.groupby("split")["audio_filename"].nunique()
    labels = aggregate(annotations, taxonomy, threshold=settings.threshold, soft=settings.soft)
    for path, table in ((args.out, labels), (args.any, aggregate_any(annotations, taxonomy))):
        with replacing(path) as partial:
            table.to_csv(partial, index=False, lineterminator="\n")
        counts = table["split"].value_counts().sort_index()
        texts = [f"{n} {split} clips" + (f" (verified, of {clips[split]})" if n < clips[split] else "")
                 for split, n in counts.items()]  # fmt: skip
        done("%s: %s", path, ", ".join(texts))


if __name__ == "__main__":
    run(main)
