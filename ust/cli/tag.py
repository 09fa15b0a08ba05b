"""Tag recordings of any length, rate and number of channels.

Without a trained system, the published network mn04_as tags them by AudioSet's classes (--system audioset).

A recording is reported under its path relative to the given folder, or its file name. If two recordings would
have the same name, all are reported under their paths relative to the common parent of the arguments.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ust.cli.console import check_suffix, log, log_done, parse_args, progress
from ust.util.errors import UserError, bullet_list, plural

if TYPE_CHECKING:
    from ust.tagging.tagger import Tagger, Window
    from ust.util.config import Compute

FORMATS = ("table", "csv", "json", "audacity", "png")


def add_system_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select a trained system."""
    parser.add_argument(
        "--system",
        help="name of a checkpoint, folder below --models, exported folder, project of ust init, or audioset "
        "(no training); default: submission of --params, or audioset if nothing is trained",
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="file with the published weights for audioset, instead of a download"
    )
    parser.add_argument(
        "--classes",
        choices=("audioset",),
        help="with the system audioset, predict AudioSet's 527 classes instead of SONYC-UST's labels",
    )
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the trained systems")
    parser.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        help="file with the sections checkpoints and compute",
    )


def add_window_options(parser: argparse.ArgumentParser, *, hop: float) -> None:
    """Add the options --window and --hop; `hop` is the default."""
    add = parser.add_argument
    add("--window", type=float, default=10.0, help="seconds of a window, at most 10, default 10")
    add("--hop", type=float, default=hop, help=f"seconds between the starts of windows, default {hop:g}")


def add_threshold_option(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add the option --threshold, which replaces the thresholds that training stored."""
    parser.add_argument(
        "--threshold",
        type=parse_probability,
        metavar="P",
        help=f"lowest probability {meaning}, default: each label's own, which training chose, or 0.5",
    )


def parse_probability(text: str) -> float:
    """Parse an option that is a probability."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"is {text}, should be a probability from 0 to 1")
    return value


class SystemSelection(NamedTuple):
    """A selected system, not yet loaded: name, folder, post-processing options, and the section compute."""

    name: str
    folder: Path
    inference_options: dict[str, Any]
    compute: "Compute"


def resolve_system(args: argparse.Namespace) -> SystemSelection:
    """Return the system that the command-line options select."""
    from ust.models.checkpoints import Checkpoint
    from ust.tagging import audioset
    from ust.tagging.locate import find_model, is_project, locate
    from ust.tagging.pretrained import is_packed, unpack
    from ust.util.config import Compute, Name, read_sections
    from ust.util.documents import read_yaml
    from ust.util.names import MODEL_FILE

    name, rows = args.system, {}
    compute = Compute(
        threads=2, device="auto", processes=1, synchronise=True, scheduler=None, shard_clips=1000
    )
    if name is None and (args.checkpoint or args.classes):
        name = audioset.NAME
    if name is None and is_project(args.params.parent):
        name = str(args.params.parent)
    outside = name is not None and (is_packed(Path(name)) or is_project(Path(name)))
    if args.params.exists() and not outside and "checkpoints" in read_yaml(args.params):
        kinds: dict[str, Any] = {
            "submission": Name,
            "checkpoints": dict[Name, Checkpoint],
            "compute": Compute,
        }
        submission, rows, compute = read_sections(args.params, **kinds)
        if name is None and any(args.models.glob(f"**/{MODEL_FILE}")):
            name = submission
    if name is None:
        log.info("no system is trained here; tagging by %s", audioset.NAME)
        name = audioset.NAME
    if args.classes and name != audioset.NAME:
        raise UserError(f"--classes {args.classes} is for the system {audioset.NAME}, not for {name}")
    row = rows.get(name, Checkpoint(model="none"))
    trained = args.models / (row.model if name in rows else name) / MODEL_FILE
    if name == audioset.NAME and (args.checkpoint or args.classes or not trained.is_file()):
        packed = audioset.prepare_audioset(checkpoint=args.checkpoint, every_class=bool(args.classes))
        folder, _, inference_options = unpack(packed)
        return SystemSelection(name, folder, inference_options, compute)
    if outside or args.checkpoint:
        folder, _, inference_options = locate(name, checkpoint=args.checkpoint)
        return SystemSelection(Path(name).resolve().name, folder, inference_options, compute)
    folder = find_model(args.models, name, {each: row.model for each, row in rows.items()})
    return SystemSelection(name, folder, row.model_dump(exclude={"model"}), compute)


def load_tagger(
    args: argparse.Namespace, *, device: str | None = None, float32: bool = False, fast: bool = True
) -> "tuple[str, Tagger, int]":
    """Load the selected system; return its name, the tagger, and the number of threads."""
    from ust.tagging.tagger import Tagger
    from ust.util.device import prepare_device

    name, folder, inference_options, compute = resolve_system(args)
    chosen = prepare_device(device=device or compute.device, threads=compute.threads)
    tagger = Tagger.load(folder, **inference_options, device=chosen, fast=fast)
    if tagger.warning:
        log.warning("warning: %s: %s", name, tagger.warning)
    if float32:
        tagger.front_ends = {key: front_end.in_float32() for key, front_end in tagger.front_ends.items()}
    return name, tagger, compute.threads


def collect_recordings(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the recordings of files and folders by the names they are reported under, each once.

    The name of a recording is its path relative to the given folder, or its file name. If two names would be
    equal, all names are paths relative to the common parent of the arguments.
    """
    from ust.audio.suffixes import list_recordings
    from ust.util.names import printable

    recordings: dict[
        Path, tuple[Path, str]
    ] = {}  # by location; a symlink to a file is a recording of its own
    for path in paths:
        inside = list_recordings(path) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no recordings in this folder")
        for each in inside:
            location = each.parent.resolve() / each.name
            recordings.setdefault(
                location, (each, str(each.relative_to(path)) if path.is_dir() else each.name)
            )
    files = [path for path, _ in recordings.values()]
    names = [printable(name) for _, name in recordings.values()]
    if len(set(names)) < len(names):
        # abspath, not resolve: names follow the paths as given, not the targets of symlinks.
        top = os.path.commonpath([os.path.abspath(path.parent) for path in files])  # noqa: PTH100
        names = [printable(os.path.relpath(path, top)) for path in files]
    named = dict(zip(names, files, strict=True))
    if len(named) < len(files):
        twice = next(name for name in named if names.count(name) > 1)
        raise UserError(f"two recordings would be reported as {twice}; rename one")
    return named


def main(prog: str = "python -m stages.tag", argv: Sequence[str] | None = None) -> None:
    """Print the tags or write them to files."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path, nargs="+", metavar="RECORDING_OR_FOLDER", help="what to tag")
    add_system_options(parser)
    parser.add_argument("--format", choices=FORMATS, default="table", help="output format, default table")
    add_window_options(parser, hop=5.0)
    add_threshold_option(parser, "of a label that counts as present")
    parser.add_argument(
        "--time",
        help="local time of the recordings' start, for systems that take it, such as 2026-07-04T15:00",
    )
    parser.add_argument(
        "--place",
        metavar="LATITUDE,LONGITUDE[,BOROUGH]",
        help="place of the recordings, for systems that take it, such as 40.73,-73.99,Manhattan",
    )
    parser.add_argument(
        "--out", type=Path, help="output file; for audacity a folder, with a file for each recording"
    )
    args = parse_args(parser, writes=["out"], argv=argv)
    if args.format == "png" and not args.out:
        raise UserError("a picture needs a file to be written to: --out FILE.png")
    if args.format == "png":
        check_suffix("--out", args.out, ".png")

    from ust.audio.recordings import BadAudio
    from ust.features.context import parse_place, parse_time
    from ust.tagging import formats

    time = None if args.time is None else parse_time(args.time)
    place = None if args.place is None else parse_place(args.place)
    name, tagger, _ = load_tagger(args)
    if (time or place) and not tagger.takes_context:
        log.warning("warning: %s was trained without time and place and ignores them", name)
    threshold = tagger.thresholds if args.threshold is None else args.threshold
    recordings = collect_recordings(args.recordings)
    if args.out and args.out.resolve() in {path.resolve() for path in recordings.values()}:
        raise UserError(f"{args.out}: is one of the recordings, should be a file to write")
    if args.format == "audacity" and len(recordings) > 1 and not args.out:
        raise UserError("label tracks of several recordings need a folder to be written to: --out FOLDER")

    tagged: dict[str, list[Window]] = {}
    errors = []
    for name, path in progress(recordings.items(), total=len(recordings), description="tagging", unit="file"):
        try:
            tagged[name] = list(tagger.tag(path, window=args.window, hop=args.hop, time=time, place=place))
        except BadAudio as error:
            errors.append(str(error))
    if args.format == "audacity":
        for name, windows in tagged.items():
            text = formats.audacity_labels(windows, tagger.taxonomy, threshold)
            write(args.out and args.out / f"{name}.txt", text)
    elif args.format == "png" and tagged:
        from ust.reports.tag_figure import draw_tags
        from ust.util.files import atomic_write

        with atomic_write(args.out) as partial:
            figure = draw_tags(recordings, tagged, tagger.taxonomy, warning=tagger.warning)
            figure.savefig(partial, format="png", dpi=100, metadata={"Software": None})
    elif args.format == "csv" and tagged:
        write(args.out, formats.submission_csv(tagged, tagger.taxonomy))
    elif tagged:
        to_text = formats.tags_table if args.format == "table" else formats.tags_json
        write(args.out, to_text(tagged, tagger.taxonomy, threshold))
    if len(recordings) == len(errors) == 1:
        raise UserError(errors[0])
    if errors:
        raise UserError(
            f"{len(errors)} of {len(recordings)} recordings cannot be tagged:\n{bullet_list(errors)}"
        )
    windows = sum(len(windows) for windows in tagged.values())
    counted = f"{plural(len(tagged), 'recording')}, {plural(windows, 'window')}"
    log_done("%s: %s", args.out or "tagged", counted)


def write(path: Path | None, text: str) -> None:
    """Write a text to a file or, without a path, to standard output."""
    from ust.util.files import write_text

    if path is None:
        sys.stdout.write(text)
    else:
        write_text(path, text)
        log.debug("%s", path)
