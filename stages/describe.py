"""Describe the data: label counts, how far annotators agree, and what a network is given of a clip."""

import argparse
from pathlib import Path

import numpy as np

from ust.agreement import agreement, label_counts
from ust.annotations import read_annotations
from ust.console import done, parse, run
from ust.errors import UserError
from ust.features import ORIGINAL, check_same_rows, open_features
from ust.figures import features_figure
from ust.files import replacing
from ust.labels import read_labels
from ust.taxonomy import read_taxonomy


def main() -> None:
    """Write label_counts.csv, agreement.csv and features.png, the report's Figure 1."""
    parser = argparse.ArgumentParser(prog="python -m stages.describe", description=__doc__)
    parser.add_argument("annotations", type=Path, help="annotations.csv")
    parser.add_argument("labels", type=Path, help="labels.csv")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("logmel", type=Path, help="HDF5 of the stage extract_logmel")
    parser.add_argument("vggish", type=Path, help="HDF5 of the stage extract_vggish")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--clip", help="to draw, default: the one with the most labels")
    args = parse(parser)
    taxonomy = read_taxonomy(args.taxonomy)
    annotations = read_annotations(args.annotations, taxonomy)
    labels = read_labels(args.labels, taxonomy)

    tables = {
        "label_counts": label_counts(annotations, labels, taxonomy),
        "agreement": agreement(annotations, taxonomy),
    }
    clip = args.clip or labels[list(taxonomy.labels)].sum(axis=1).idxmax()
    with open_features(args.logmel, "logmel") as logmel, open_features(args.vggish, "vggish") as vggish:
        check_same_rows(logmel, vggish)
        rows = np.flatnonzero((logmel.clip == clip) & (logmel.variant == ORIGINAL))
        if not len(rows):
            raise UserError(f"{args.logmel}: has no clip {clip!r}")
        heard = [label for label in taxonomy.coarse if labels.loc[clip, label] > 0.5]
        figure = features_figure(
            logmel[rows][0],
            vggish[rows][0],
            sample_rate=int(logmel.attributes["sample_rate"]),
            hop_length=int(logmel.attributes["hop_length"]),
            title=f"{clip}: {', '.join(heard) or 'nothing heard'}",
        )
    for name, table in tables.items():
        with replacing(args.out / f"{name}.csv") as partial:
            table.to_csv(partial, index=False, float_format="%.6f", lineterminator="\n")
    with replacing(args.out / "features.png") as partial:
        figure.savefig(partial, format="png", dpi=100, metadata={"Software": None})
    done("%s: %d labels, %s", args.out, len(taxonomy.labels), clip)


if __name__ == "__main__":
    run(main)
