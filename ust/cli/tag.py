"""Tag recordings of any length, rate and number of channels with a trained system.

A recording is reported under its path below the folder that was given, or its file name. Where two would have
the same name, all are reported under their paths below the folder that holds everything that was given.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ust.cli.console import log, log_done, parse_args, progress
from ust.util.errors import UserError, bullet_list

if TYPE_CHECKING:
    from ust.tagging.tagger import Tagger, Window
    from ust.util.config import Compute

FORMATS = ("table", "csv", "json", "audacity", "png")


def add_system(parser: argparse.ArgumentParser) -> None:
    """The options that say which system."""
    parser.add_argument(
        "--system",
        help="a name, a folder below --models, or one that was packed; default: submission of --params",
    )
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the trained systems")
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="for the systems' names, if it is there"
    )


class SystemChoice(NamedTuple):
    """A system before it is read: name, folder, how its answers are read, and the section compute."""

    name: str
    folder: Path
    inference_options: dict[str, Any]
    compute: "Compute"


def choose_system(args: argparse.Namespace) -> SystemChoice:
    """The system that is asked for."""
    from ust.models.checkpoints import Checkpoint
    from ust.tagging.pretrained import find_model, is_packed, unpack
    from ust.util.config import Compute, Name, read_sections

    name, rows = args.system, {}
    packed = name is not None and is_packed(Path(name))
    compute = Compute(
        threads=2, device="auto", processes=1, synchronise=True, scheduler=None, shard_clips=1000
    )
    if args.params.exists() and not packed:
        kinds: dict[str, Any] = {
            "submission": Name,
            "checkpoints": dict[Name, Checkpoint],
            "compute": Compute,
        }
        submission, rows, compute = read_sections(args.params, **kinds)
        name = name or submission
    if name is None:
        raise UserError(f"{args.params}: no such file, so --system is needed: a folder below --models")
    if packed:
        folder, _, inference_options = unpack(Path(name))
        return SystemChoice(Path(name).resolve().name, folder, inference_options, compute)
    folder = find_model(args.models, name, {each: row.model for each, row in rows.items()})
    row = rows.get(name, Checkpoint(model="none"))
    return SystemChoice(name, folder, row.model_dump(exclude={"model"}), compute)


def load_tagger(
    args: argparse.Namespace, *, device: str | None = None, precise: bool = False, fast: bool = True
) -> "tuple[str, Tagger, int]":
    """The name of the system that is asked for, the system, and the number of threads to compute with."""
    from ust.tagging.tagger import Tagger
    from ust.util.device import prepare_device

    name, folder, inference_options, compute = choose_system(args)
    chosen = prepare_device(device=device or compute.device, threads=compute.threads)
    tagger = Tagger.load(folder, **inference_options, device=chosen, fast=fast)
    if precise:
        tagger.front_ends = {key: each.precise() for key, each in tagger.front_ends.items()}
    return name, tagger, compute.threads


def find(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the recordings by the names they are reported under, each once.

    A recording's name is its path below the folder that was given, or its file name. Where two would have the
    same, all have their paths below the folder that holds everything that was given.

    Raises
    ------
    UserError
        If there are no recordings in a folder.
    """
    from ust.audio.suffixes import list_recordings
    from ust.util.names import printable

    found: dict[Path, tuple[Path, str]] = {}  # by where it lies; a link to a file is a recording of its own
    for path in paths:
        inside = list_recordings(path) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no recordings in this folder")
        for each in inside:
            place = each.parent.resolve() / each.name
            found.setdefault(place, (each, str(each.relative_to(path)) if path.is_dir() else each.name))
    given = [path for path, _ in found.values()]
    names = [printable(name) for _, name in found.values()]
    if len(set(names)) < len(names):
        # Not resolved: where links lead to is not what was given.
        top = os.path.commonpath([os.path.abspath(path.parent) for path in given])  # noqa: PTH100
        names = [printable(os.path.relpath(path, top)) for path in given]
    named = dict(zip(names, given, strict=True))
    if len(named) < len(given):
        twice = next(name for name in named if names.count(name) > 1)
        raise UserError(f"two recordings would be reported as {twice}; rename one")
    return named


def main(prog: str = "python -m stages.tag", words: Sequence[str] | None = None) -> None:
    """Print the tags, or write them to files."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path, nargs="+", metavar="RECORDING_OR_FOLDER")
    add_system(parser)
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument("--window", type=float, default=10.0, help="seconds, at most 10, the default")
    parser.add_argument("--hop", type=float, default=5.0, help="seconds from window to window, default 5")
    parser.add_argument("--threshold", type=float, default=0.5, help="of Audacity's labels, default 0.5")
    parser.add_argument("--out", type=Path, help="file to write; for audacity a folder, with a file for each")
    args = parse_args(parser, writes=["out"], words=words)
    if args.format == "png" and not args.out:
        raise UserError("a picture needs a file to be written to: --out FILE.png")

    from ust.audio.recordings import BadAudio
    from ust.tagging import formats

    texts = {"table": formats.tags_table, "csv": formats.submission_csv, "json": formats.as_json}
    _, tagger, _ = load_tagger(args)
    recordings = find(args.recordings)
    if args.out and args.out.resolve() in {path.resolve() for path in recordings.values()}:
        raise UserError(f"{args.out}: is one of the recordings, should be a file to write")
    if args.format == "audacity" and len(recordings) > 1 and not args.out:
        raise UserError("label tracks of several recordings need a folder to be written to: --out FOLDER")

    tagged: dict[str, list[Window]] = {}
    bad = []
    for name, path in progress(recordings.items(), total=len(recordings), description="tagging", unit="file"):
        try:
            tagged[name] = list(tagger.tag(path, window=args.window, hop=args.hop))
        except BadAudio as error:
            bad.append(str(error))
    if args.format == "audacity":
        for name, windows in tagged.items():
            text = formats.audacity(windows, tagger.taxonomy, args.threshold)
            write(args.out and args.out / f"{name}.txt", text)
    elif args.format == "png" and tagged:
        from ust.reports.tag_figure import draw_tags
        from ust.util.files import atomic_write

        with atomic_write(args.out) as partial:
            figure = draw_tags(recordings, tagged, tagger.taxonomy)
            figure.savefig(partial, format="png", dpi=100, metadata={"Software": None})
    elif tagged:
        write(args.out, texts[args.format](tagged, tagger.taxonomy))
    if bad:
        raise UserError(f"{len(bad)} of {len(recordings)} recordings cannot be tagged:\n{bullet_list(bad)}")
    windows = sum(len(windows) for windows in tagged.values())
    log_done("%s: %d recordings, %d windows", args.out or "tagged", len(tagged), windows)


def write(path: Path | None, text: str) -> None:
    """To a file, or to the terminal."""
    from ust.util.files import atomic_write

    if path is None:
        sys.stdout.write(text)
    else:
        with atomic_write(path) as partial:
            partial.write_text(text, "utf-8")
        log.debug("%s", path)
