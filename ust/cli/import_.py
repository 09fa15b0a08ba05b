"""Bring labelled recordings into a folder that ust init made; they are only read.

Forms: sonyc (annotations.csv), esc50, urbansound8k, label-studio (JSON), raven (selection tables), audacity
(label tracks), csv (recording, label, perhaps start, end, annotator, group), folder (one for each class).
"""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ust.cli.console import log, log_done, parse_args, progress
from ust.util.errors import UserError, bullet_list
from ust.util.names import nfc

if TYPE_CHECKING:
    from ust.custom.voice import SpeechFilter
    from ust.datasets.formats.base import Annotation


def main(prog: str = "ust import", words: Sequence[str] | None = None) -> None:
    """Cut clips of ten seconds, label them, deal them to train and validate."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of ust init")
    parser.add_argument("source", type=Path, help="file or folder with labels")
    parser.add_argument("--format", help="by default what it looks like")
    parser.add_argument("--audio", type=Path, help="folder of the recordings, where they lie elsewhere")
    parser.add_argument(
        "--column", action="append", default=[], metavar="WHAT=NAME",
        help="a table's column for path, label, start, end, duration (start_ms, end_ms, duration_ms), "
        "annotator, group or split; WHAT= for none",
    )  # fmt: skip
    parser.add_argument("--separator", help="of a table's columns")
    parser.add_argument(
        "--map", action="append", default=[], metavar="LABEL=CLASS", help="a label that has another name here"
    )
    parser.add_argument(
        "--group", metavar="PATTERN",
        help=r"regular expression: what of a recording's name says what it belongs to, such as '^(\d+)-'",
    )  # fmt: skip
    parser.add_argument("--split", choices=("train", "validate", "test"), help="of all these clips")
    parser.add_argument(
        "--validate", type=float, default=0.2, help="share of the clips to validate on, default 0.2"
    )
    parser.add_argument(
        "--validate-fold", action="append", default=[], help="of a data set with folds, to validate on"
    )
    parser.add_argument("--seed", type=int, default=2019, help="of the dealing, default 2019")
    parser.add_argument("--only-labelled", action="store_true", help="leave out clips without labels")
    parser.add_argument(
        "--asked", metavar="CLASSES",
        help="with commas, the classes that SOURCE was labelled for, by default all; the others are not "
        "taken for absent",
    )  # fmt: skip
    parser.add_argument(
        "--replace", action="store_true",
        help="put the labels in the place of those that the same annotators gave these clips before, instead "
        "of adding to them",
    )  # fmt: skip
    parser.add_argument(
        "--unlabelled", action="store_true", help="SOURCE is a folder of recordings without labels, to review"
    )
    parser.add_argument(
        "--no-speech",
        action="store_true",
        help="keep no clip in which somebody is heard to speak",
    )
    parser.add_argument("--speech-threshold", type=float, default=0.05, help="of that, default 0.05")
    args = parse_args(parser, words=words)
    if not 0 <= args.validate < 1:
        parser.error(f"--validate is {args.validate}, should be a share below 1")

    from ust.audio.suffixes import list_recordings
    from ust.datasets.collection import Collection
    from ust.datasets.formats.base import ImportOptions
    from ust.datasets.formats.registry import FORMATS, detect_format
    from ust.datasets.importing import import_recordings, import_unlabelled

    collection = Collection(args.folder)
    if not args.source.exists():
        raise UserError(f"{args.source}: no such file or folder")
    root = args.audio or (args.source if args.source.is_dir() else args.source.parent)
    problems: list[str] = []
    options = {"progress": progress}
    if args.no_speech:
        options["refuse"] = speech_filter(args.folder, args.speech_threshold)
    with collection.lock():
        if args.unlabelled:
            found = import_unlabelled(collection, list_recordings(args.source), root, **options)
        else:
            name = args.format or detect_format(args.source)
            if name not in FORMATS:
                raise UserError(f"--format is {name!r}, should be one of {', '.join(FORMATS)}")
            given = ImportOptions(
                args.audio, parse_pairs("--column", args.column), args.separator, tuple(args.validate_fold)
            )
            read = FORMATS[name].read(args.source, given)
            problems += read.problems
            if problems and not read.usable:
                warn(problems, "thing(s) could not be used")
                raise UserError(f"{args.source}: nothing of it could be used")
            said = assign_groups(read.annotations, args.group) if args.group else read.annotations
            found = import_recordings(
                collection, said, root, renamed=parse_pairs("--map", args.map), split=args.split,
                validate=args.validate, seed=args.seed, only_labelled=args.only_labelled,
                asked=args.asked and args.asked.split(","), replace_answers=args.replace,
                source_name=relative(args.source, args.folder), **options,
            )  # fmt: skip
    problems += found.problems
    for text in found.warnings:
        log.warning("%s", text)
    warn(problems, "thing(s) could not be used")
    warn(found.contradictions, "contradiction(s)")
    known = f", {found.known} were there" if found.known else ""
    if found.clips or found.known:
        log_done("%s: %d new clips%s", args.folder, found.clips, known)
    if found.unreadable:
        bad = bullet_list(found.unreadable, limit=10_000)
        raise UserError(f"{len(found.unreadable)} recordings cannot be read, the others are used:\n{bad}")
    if not found.clips and not found.known:
        raise UserError(f"{args.source}: nothing of it could be used")


def warn(lines: list[str], what: str) -> None:
    """Log a list, if there is anything in it."""
    if lines:
        log.warning("%d %s:\n%s", len(lines), what, bullet_list(lines, limit=10_000))


def relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, in letters that any file can hold."""
    return os.path.relpath(path, folder).replace(os.sep, "/").encode("utf-8", "backslashreplace").decode()


def speech_filter(folder: Path, threshold: float) -> "SpeechFilter":
    """What hears voices, with the weights that the folder's params.yaml names."""
    from tempfile import TemporaryDirectory

    from ust.cli.train import weights_fetcher
    from ust.custom.project import PARAMS
    from ust.custom.voice import SpeechFilter
    from ust.features.registry import read_feature, write_weights

    _, settings = read_feature(folder / PARAMS, "mn")
    with TemporaryDirectory() as scratch:
        write_weights(Path(scratch), "mn", settings, weights_fetcher(folder))
        return SpeechFilter(Path(scratch), settings.weights, threshold)


def assign_groups(said: "list[Annotation]", pattern: str) -> "list[Annotation]":
    """The same, each of the group that a pattern finds in its recording's name.

    Raises
    ------
    UserError
        If the pattern is none, or finds nothing in a name.
    """
    try:
        expression = re.compile(nfc(pattern))
    except re.error as error:
        raise UserError(f"--group is {pattern!r}, no regular expression: {error}") from None
    found = []
    for each in said:
        match = expression.search(nfc(each.path.name))
        if not match or not match.group(match.lastindex or 0):
            raise UserError(f"--group: {pattern!r} finds nothing in {each.path.name!r}")
        found.append(replace(each, group=match.group(match.lastindex or 0)))
    return found


def parse_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Options like "label=species" as a mapping.

    Raises
    ------
    UserError
        If one is not like that.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UserError(f"{option} is {text!r}, should be like NAME=OTHER")
        found[name] = value
    return found
