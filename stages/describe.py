"""Describe the data: label counts, agreement of annotators, and the features of one clip."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages import run_stage
from ust.cli.console import log_done, parse_args


def main(argv: Sequence[str] | None = None) -> None:
    """Write label_counts.csv, agreement.csv and features.png, the report's Figure 1."""
    parser = argparse.ArgumentParser(prog="python -m stages.describe", description=__doc__)
    parser.add_argument("annotations", type=Path, help="annotations.csv")
    parser.add_argument("labels", type=Path, help="CSV of the stage aggregate_labels")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("features", type=Path, help="folder of the stages extract")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--clip", help="clip to plot, by default the one with the most labels")
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="for the names of the features"
    )
    args = parse_args(parser, argv=argv)

    from ust.annotations.agreement import count_labels, measure_agreement
    from ust.annotations.annotations import read_annotations, read_coarse_mode
    from ust.annotations.labels import read_labels
    from ust.annotations.taxonomy import read_taxonomy
    from ust.features.store import open_feature_files
    from ust.reports.feature_figure import draw_features
    from ust.util.config import Name, read_sections
    from ust.util.files import atomic_write
    from ust.util.tables import write_csv

    rows = dict[Name, dict[str, Any]]
    spectrograms, embeddings = read_sections(args.params, spectrograms=rows, embeddings=rows)
    taxonomy = read_taxonomy(args.taxonomy)
    annotations = read_annotations(args.annotations, taxonomy, read_coarse_mode(args.params))
    labels = read_labels(args.labels, taxonomy)
    tables = {
        "label_counts": count_labels(annotations, labels, taxonomy),
        "agreement": measure_agreement(annotations, taxonomy),
    }
    clip = args.clip or labels[list(taxonomy.labels)].sum(axis=1).idxmax()
    with open_feature_files(args.features, {name: name for name in [*spectrograms, *embeddings]}) as features:
        values = {name: file.read_clip(clip) for name, file in features.items()}
        attributes = {name: file.attributes for name, file in features.items()}
    present = [label for label in taxonomy.coarse if labels.loc[clip, label] > 0.5]
    figure = draw_features(values, attributes, title=f"{clip}: {', '.join(present) or 'no label'}")
    for name, table in tables.items():
        write_csv(args.out / f"{name}.csv", table, float_format="%.6f")
    with atomic_write(args.out / "features.png") as partial:
        figure.savefig(partial, format="png", dpi=100, metadata={"Software": None})
    log_done("%s: %d labels, %s", args.out, len(taxonomy.labels), clip)


if __name__ == "__main__":
    run_stage(main)
