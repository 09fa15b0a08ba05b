"""Package a checkpoint's predictions as a submission to the challenge, and check the package."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages import run_stage
from ust.cli.console import log_done, parse_args


def main(argv: Sequence[str] | None = None) -> None:
    """Write <label>.output.csv and <label>.meta.yaml, and the headline metrics."""
    parser = argparse.ArgumentParser(prog="python -m stages.submit", description=__doc__)
    parser.add_argument("checkpoint", help="a row of checkpoints in params.yaml")
    parser.add_argument("predictions", type=Path, help="CSV of the stage predict")
    parser.add_argument("metrics", type=Path, help="JSON of the stage evaluate with all metrics")
    parser.add_argument("annotations", type=Path, help="annotations.csv, for the split's clips")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="folder for the submission")
    parser.add_argument("out_metrics", type=Path, help="JSON file to write the headline metrics to")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, writes=["out_metrics"], replaces=["out"], argv=argv)

    import shutil

    from ust.annotations.annotations import AS_GIVEN, read_annotations, select_ground_truth
    from ust.annotations.taxonomy import read_taxonomy
    from ust.evaluation.metrics import HEADLINES
    from ust.evaluation.submission import Submit, check_submission, submission_metadata
    from ust.util.config import read_sections
    from ust.util.documents import read_json, write_json, write_yaml
    from ust.util.folders import atomic_folder

    (settings,) = read_sections(args.params, submit=Submit)
    taxonomy = read_taxonomy(args.taxonomy)
    metrics = read_json(args.metrics, made_by="evaluate")
    # Only the names of the clips are used.
    annotations = read_annotations(args.annotations, taxonomy, AS_GIVEN)
    truth = select_ground_truth(annotations, metrics["provenance"]["split"])
    authors = [author.model_dump() for author in settings.authors]
    with atomic_folder(args.out, by="submit", force=args.force) as out:
        shutil.copyfile(args.predictions, out / f"{settings.label}.output.csv")
        metadata = submission_metadata(settings.label, settings.name, args.checkpoint, authors, metrics)
        write_yaml(out / f"{settings.label}.meta.yaml", metadata)
        check_submission(out, settings.label, list(truth["audio_filename"]), taxonomy)
    headlines = {
        level: {name: metrics[level][name] for name in HEADLINES}
        for level in ("fine", "coarse")
        if level in metrics
    }
    write_json(args.out_metrics, headlines)
    log_done("%s: %s, %d clips, checked, as %s", args.out, args.checkpoint, len(truth), settings.label)


if __name__ == "__main__":
    run_stage(main)
