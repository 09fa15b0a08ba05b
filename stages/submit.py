"""Package a checkpoint's predictions as a submission to the challenge, and check the package."""

import argparse
from pathlib import Path

from ust.commands.console import done, parse, run


def main() -> None:
    """Write <label>.output.csv and <label>.meta.yaml, and the official figures."""
    parser = argparse.ArgumentParser(prog="python -m stages.submit", description=__doc__)
    parser.add_argument("checkpoint", help="its name")
    parser.add_argument("predictions", type=Path, help="CSV of the stage predict")
    parser.add_argument("metrics", type=Path, help="JSON of the stage evaluate")
    parser.add_argument("annotations", type=Path, help="annotations.csv, for the split's clips")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="folder for the submission")
    parser.add_argument("out_metrics", type=Path, help="JSON file to write the figures to")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, writes=["out_metrics"], replaces=["out"])

    import shutil

    from ust.annotations.reading import AS_GIVEN, ground_truth, read_annotations
    from ust.annotations.taxonomy import read_taxonomy
    from ust.files.documents import read_json, write_json, write_yaml
    from ust.files.folders import replacing_folder
    from ust.files.settings import read_sections
    from ust.scores.submission import Submit, check, figures, metadata

    (settings,) = read_sections(args.params, submit=Submit)
    taxonomy = read_taxonomy(args.taxonomy)
    metrics = read_json(args.metrics, made_by="evaluate")
    # Only the names of the clips are used.
    annotations = read_annotations(args.annotations, taxonomy, AS_GIVEN)
    truth = ground_truth(annotations, metrics["rests_on"]["split"])
    authors = [author.model_dump() for author in settings.authors]
    with replacing_folder(args.out, by="submit", force=args.force) as out:
        shutil.copyfile(args.predictions, out / f"{settings.label}.output.csv")
        about = metadata(settings.label, settings.name, args.checkpoint, authors, metrics)
        write_yaml(out / f"{settings.label}.meta.yaml", about)
        check(out, settings.label, list(truth["audio_filename"]), taxonomy)
    write_json(args.out_metrics, {"system": args.checkpoint, **figures(metrics)})
    done("%s: %s, %d clips, checked, as %s", args.out, args.checkpoint, len(truth), settings.label)


if __name__ == "__main__":
    run(main)
