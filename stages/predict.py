"""Predict the labels of a split with a trained system, in the official submission layout."""

import argparse
from pathlib import Path

from ust import params
from ust.console import done, parse, run
from ust.device import prepare
from ust.examples import select
from ust.features import check_same_rows, open_features
from ust.labels import read_labels
from ust.predictions import write_predictions
from ust.systems import load_system
from ust.taxonomy import read_taxonomy


def main() -> None:
    """Write audio_filename, the 29 fine columns and the 8 coarse ones."""
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of the stage train")
    parser.add_argument("logmel", type=Path, help="HDF5 of the stage extract_logmel")
    parser.add_argument("vggish", type=Path, help="HDF5 of the stage extract_vggish")
    parser.add_argument("labels", type=Path, help="labels.csv, for the split's clips")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="CSV file to write")
    parser.add_argument("--train", type=Path, help="CSV file to write the predictions for train to, too")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, writes=["out", "train"])
    settings, hierarchical, baseline, compute = params.load(
        args.params, "predict", "hierarchical", "baseline", "compute"
    )
    device = prepare(device=compute.device, threads=compute.threads)

    taxonomy = read_taxonomy(args.taxonomy)
    system = load_system(args.model, **hierarchical.model_dump(), **baseline.model_dump())
    labels = read_labels(args.labels, taxonomy)
    with open_features(args.logmel, "logmel") as logmel, open_features(args.vggish, "vggish") as vggish:
        check_same_rows(logmel, vggish)
        for split, out in [(settings.split, args.out)] + ([("train", args.train)] if args.train else []):
            examples = select(split, labels, list(taxonomy.labels), logmel, vggish, variants=False)
            probabilities = system.probabilities(
                examples, taxonomy, batch_size=settings.batch_size, device=device
            )
            clips = list(logmel.clip[examples.rows])
            write_predictions(out, clips, probabilities, taxonomy)
            done("%s: %d %s clips", out, len(clips), split)


if __name__ == "__main__":
    run(main)
