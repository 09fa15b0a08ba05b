"""Import labelled recordings into a project that ust init made. The recordings are read, never changed.

Formats: sonyc (annotations.csv), esc50, urbansound8k, label-studio (JSON), raven (selection tables), audacity
(label tracks), csv (recording, label, optionally start, end, annotator, group), folder (one for each class).
Recordings without labels are imported by --unlabelled.
"""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ust.cli.console import log, log_done, parse_args, progress
from ust.util.errors import UserError, bullet_list, plural
from ust.util.names import nfc

WITHOUT_LABELS = "recordings without labels are imported by --unlabelled"

if TYPE_CHECKING:
    from ust.custom.speech import SpeechFilter
    from ust.datasets.formats.base import Annotation


def main(prog: str = "ust import", argv: Sequence[str] | None = None) -> None:
    """Cut recordings into ten-second clips, label them and split them into train and validate."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="folder made by ust init")
    add("source", type=Path, help="file or folder with the labels")
    add("--format", help="format of SOURCE, by default detected")
    add("--audio", type=Path, help="folder of the recordings, if not beside the labels")
    add("--column", action="append", default=[], metavar="WHAT=NAME",
        help="name of the column with path, label, start, end, duration (start_ms, end_ms, duration_ms), "
        "annotator, group or split; WHAT= if the table has none")  # fmt: skip
    add("--separator", help="column separator of a table, by default detected")
    add("--map", action="append", default=[], metavar="LABEL=CLASS", help="rename a label; LABEL= ignores it")
    add("--group", metavar="PATTERN",
        help=r"regular expression for the part of a file name that identifies its group, such as '^(\d+)-'; "
        "a group is never divided between train and validate")  # fmt: skip
    add("--split", choices=("train", "validate", "test"), help="put all these clips into one split")
    add("--validate", type=float, default=0.2, help="share of the clips for validate, default 0.2")
    add("--validate-fold", action="append", default=[], help="fold for validate, of data sets with folds")
    add("--seed", type=int, default=2019, help="seed of the split, default 2019")
    add("--only-labelled", action="store_true", help="leave out clips without labels")
    add("--asked", metavar="CLASSES",
        help="the classes that SOURCE was labelled for, separated by commas, by default all; the others "
        "stay unknown instead of absent")  # fmt: skip
    add("--replace", action="store_true", help="replace earlier labels of these clips by these annotators")
    add("--unlabelled", action="store_true", help="SOURCE is a folder of recordings to label by ust review")
    add("--no-speech", action="store_true", help="leave out clips with audible speech")
    add("--speech-threshold", type=float, default=0.05, help="lowest probability of speech, default 0.05")
    args = parse_args(parser, argv=argv)
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
        options["reject"] = speech_filter(args.folder, args.speech_threshold)
    with collection.lock():
        if args.unlabelled:
            result = import_unlabelled(collection, list_recordings(args.source), root, **options)
        else:
            name = args.format or detect_format(args.source)
            if name not in FORMATS:
                raise UserError(
                    f"--format is {name!r}, should be one of {', '.join(FORMATS)}; {WITHOUT_LABELS}"
                )
            import_options = ImportOptions(
                args.audio, parse_pairs("--column", args.column), args.separator, tuple(args.validate_fold)
            )
            read = FORMATS[name].read(args.source, import_options)
            problems += read.problems
            if problems and not read.usable:
                log_list(problems, "entry could not be used", "entries could not be used")
                raise UserError(f"{args.source}: no label could be used; {WITHOUT_LABELS}")
            annotations = assign_groups(read.annotations, args.group) if args.group else read.annotations
            _warn_of_related_names(annotations, args.split)
            result = import_recordings(
                collection, annotations, root, renamed=parse_pairs("--map", args.map), split=args.split,
                validate=args.validate, seed=args.seed, only_labelled=args.only_labelled,
                asked=args.asked and args.asked.split(","), replace=args.replace,
                source_name=relative_path(args.source, args.folder), **options,
            )  # fmt: skip
    problems += result.problems
    for text in result.warnings:
        log.warning("%s", text)
    log_list(problems, "entry could not be used", "entries could not be used")
    log_list(result.contradictions, "contradiction", "contradictions")
    known = f", {result.known} known before" if result.known else ""
    if result.clips or result.known:
        log_done("%s: %s%s", args.folder, plural(result.clips, "new clip"), known)
    others = ", the others are used" if result.clips or result.known else ""
    if len(result.unreadable) == 1 and not others:
        raise UserError(result.unreadable[0])
    if result.unreadable:
        listing = bullet_list(result.unreadable, limit=10_000)
        raise UserError(f"{plural(len(result.unreadable), 'recording')} cannot be read{others}:\n{listing}")
    if not result.clips and not result.known:
        raise UserError(f"{args.source}: no label could be used; {WITHOUT_LABELS}")


def _warn_of_related_names(annotations: "list[Annotation]", split: str | None) -> None:
    """Warn if recordings without a group have names like slices of one source, which a split would divide."""
    from ust.datasets.importing import guess_group_pattern

    names = [each.path.name for each in annotations if not each.group and not each.split]
    if split is None and (related := guess_group_pattern(names)):
        pattern, (first, second) = related
        log.warning(
            "many recordings share the beginning of their names, such as %s and %s; if these are of one "
            "source, use --group '%s', so that a source is not divided between train and validate",
            first, second, pattern,
        )  # fmt: skip


def log_list(lines: list[str], one: str, several: str) -> None:
    """Log a warning with a list of lines and their number, unless the list is empty."""
    if lines:
        title = one if len(lines) == 1 else several
        log.warning("%d %s:\n%s", len(lines), title, bullet_list(lines, limit=10_000))


def relative_path(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, with bytes that are not UTF-8 escaped."""
    return os.path.relpath(path, folder).replace(os.sep, "/").encode("utf-8", "backslashreplace").decode()


def speech_filter(folder: Path, threshold: float) -> "SpeechFilter":
    """Return the speech filter, with the weights that the project's params.yaml names."""
    from tempfile import TemporaryDirectory

    from ust.custom.project import PARAMS
    from ust.custom.speech import SpeechFilter
    from ust.features.registry import read_network, write_network
    from ust.tagging.audioset import weights_fetcher

    settings = read_network(folder / PARAMS, "efficientat")
    with TemporaryDirectory() as scratch:
        write_network(Path(scratch), "efficientat", settings, weights_fetcher(folder))
        return SpeechFilter(Path(scratch), settings.weights, threshold)


def assign_groups(annotations: "list[Annotation]", pattern: str) -> "list[Annotation]":
    """Set the group of each annotation to the part of the recording's name that a pattern matches."""
    try:
        expression = re.compile(nfc(pattern))
    except re.error as error:
        raise UserError(f"--group is {pattern!r}, which is not a regular expression: {error}") from None
    grouped = []
    for annotation in annotations:
        match = expression.search(nfc(annotation.path.name))
        if not match or not match.group(match.lastindex or 0):
            raise UserError(f"--group: {pattern!r} does not match {annotation.path.name!r}")
        grouped.append(replace(annotation, group=match.group(match.lastindex or 0)))
    return grouped


def parse_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Parse options of the form "label=species" into a mapping."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UserError(f"{option} is {text!r}, should be like NAME=OTHER")
        pairs[name] = value
    return pairs
