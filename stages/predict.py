"""Predict the labels of a split with a trained system, in the official submission layout."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages import run_stage
from ust.cli.console import log_done, parse_args


def main(argv: Sequence[str] | None = None) -> None:
    """Write a CSV file of predictions."""
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description=__doc__)
    parser.add_argument("checkpoint", help="a row of checkpoints in params.yaml")
    parser.add_argument("models", type=Path, help="folder of the trained systems")
    parser.add_argument("features", type=Path, help="folder of the stages extract")
    parser.add_argument("annotations", type=Path, help="annotations.csv, for the clips, their time and place")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="CSV file to write")
    parser.add_argument("--train", type=Path, help="also write the predictions for train to this CSV file")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, writes=["out", "train"], argv=argv)

    from ust.annotations.annotations import AS_GIVEN, read_annotations
    from ust.annotations.labels import select_labelled_clips
    from ust.annotations.taxonomy import read_taxonomy
    from ust.evaluation.predictions import write_predictions
    from ust.features.context import CONTEXT, build_context_features, read_context, select_audio_inputs
    from ust.features.store import open_feature_files
    from ust.models.checkpoints import Checkpoint, Predict, load_system
    from ust.models.examples import predict, select_examples
    from ust.util.accelerate import accelerate
    from ust.util.config import Compute, Name, read_sections
    from ust.util.device import prepare_device
    from ust.util.errors import UserError

    kinds = {"checkpoints": dict[Name, Checkpoint], "predict": Predict, "compute": Compute}
    rows, settings, compute = read_sections(args.params, **kinds)
    if args.checkpoint not in rows:
        raise UserError(f"{args.params}: checkpoints has no {args.checkpoint!r}; it has {', '.join(rows)}")
    row = rows[args.checkpoint]
    device = prepare_device(device=compute.device, threads=compute.threads)

    taxonomy = read_taxonomy(args.taxonomy)
    # Of the annotations, only the names of the clips are used.
    clips = select_labelled_clips(read_annotations(args.annotations, taxonomy, AS_GIVEN))
    system = load_system(args.models / row.model, **row.model_dump(exclude={"model"}), taxonomy=taxonomy)
    inputs = system.metadata["inputs"]
    system = accelerate(system).to(device)
    with open_feature_files(args.features, select_audio_inputs(inputs)) as features:
        if CONTEXT in inputs:
            rows_of_audio = next(iter(features.values()))
            features[CONTEXT] = build_context_features(read_context(args.annotations), rows_of_audio)
        for split, out in [(settings.split, args.out)] + ([("train", args.train)] if args.train else []):
            examples = select_examples(split, clips, [], features, variants=False)
            probabilities = predict(system, examples, batch_size=settings.batch_size, device=device)
            write_predictions(out, list(examples.clips), probabilities, taxonomy)
            log_done("%s: %d %s clips", out, len(examples), split)


if __name__ == "__main__":
    run_stage(main)
