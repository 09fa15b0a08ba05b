"""Create a project for a tagger of your own classes: the taxonomy and the training settings."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from ust.cli.console import log, log_done, parse_args


def main(prog: str = "ust init", argv: Sequence[str] | None = None) -> None:
    """Write dcase-ust-taxonomy.yaml, params.yaml and dvc.yaml."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=__doc__,
        epilog='ust init my-city --classes "tram, church bell, market: voices, market: cart"',
    )
    add = parser.add_argument
    add("folder", type=Path, help="folder to create")
    classes = parser.add_mutually_exclusive_group(required=True)
    classes.add_argument(
        "--classes",
        help='class names, with commas; "market: cart" is the fine class cart of the coarse class market',
    )
    classes.add_argument(
        "--from", dest="source", type=Path, metavar="FOLDER",
        help="take the classes from a folder with a subfolder of recordings for each class",
    )  # fmt: skip
    classes.add_argument(
        "--taxonomy", type=Path, help="taxonomy file in the layout of dcase-ust-taxonomy.yaml"
    )
    add("--weights", default="mn04_as", help="weights of the pretrained MobileNet, default mn04_as")
    add("--checkpoint", type=Path, help="file with these weights, instead of downloading them")
    args = parse_args(parser, argv=argv)

    from ust.annotations.taxonomy import read_taxonomy
    from ust.audio.suffixes import conversion_hint, list_recordings
    from ust.custom.project import PARAMS, create_project
    from ust.datasets.formats.class_folders import list_classes
    from ust.datasets.importing import taxonomy_from_classes
    from ust.features.efficientat.weights import EfficientATConfig
    from ust.util.documents import read_yaml
    from ust.util.errors import UserError, bullet_list, plural
    from ust.util.names import printable

    if args.taxonomy:
        read_taxonomy(args.taxonomy)
        taxonomy = read_yaml(args.taxonomy)
    else:
        classes = list_classes(args.source) if args.source else args.classes.split(",")
        taxonomy = taxonomy_from_classes(name for name in classes if name.strip())
    weights = get_args(EfficientATConfig.model_fields["weights"].annotation)
    if args.weights not in weights:
        raise UserError(f"--weights is {args.weights!r}, should be one of {', '.join(weights)}")
    if args.checkpoint and not args.checkpoint.is_file():
        raise UserError(f"{args.checkpoint}: no such file")
    checkpoint = args.checkpoint and Path(os.path.relpath(args.checkpoint, args.folder)).as_posix()
    collection, matches = create_project(args.folder, taxonomy, weights=args.weights, checkpoint=checkpoint)
    recordings = list_recordings(args.source) if args.source else ()
    hints = [(path, conversion_hint(str(path))) for path in recordings]
    if unreadable := [f"{printable(path)}: {hint}" for path, hint in hints if hint]:
        log.warning("%s cannot be read:\n%s", plural(len(unreadable), "recording"), bullet_list(unreadable))
    lines = [f"{label}: {'; '.join(names) or 'no name matches'}" for label, names in matches.items()]
    log.info(
        "AudioSet's classes, by which clips are tagged before training; edit them in %s:\n%s",
        args.folder / PARAMS, bullet_list(lines),
    )  # fmt: skip
    folder, classes = args.folder, plural(len(collection.taxonomy.labels), "label")
    log_done("%s: %s; add clips by ust import %s SOURCE", folder, classes, folder)
