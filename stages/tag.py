"""Tag recordings of any length, rate and number of channels with a trained system."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import soundfile as sf

from ust import params, tagging
from ust.audio import BadAudio
from ust.console import done, log, parse, progress, run
from ust.device import prepare
from ust.errors import UserError, listing
from ust.files import replacing
from ust.pipeline import checkpoints, model_folder
from ust.tagger import Tagger, Window

SUFFIXES = {f".{name.lower()}" for name in sf.available_formats()} | {".mp3", ".ogg", ".oga", ".opus", ".aif"}
TEXTS = {"table": tagging.table, "csv": tagging.submission_csv, "json": tagging.as_json}


def find(paths: Iterable[Path]) -> dict[str, Path]:
    """The recordings by the name they are reported under: relative to the folder that was given."""
    found = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise UserError(f"{path}: no recordings in this folder")
            found |= {str(p.relative_to(path)): p for p in inside}
        else:
            found[path.name] = path
    return found


def main() -> None:
    """Print the tags, or write them to files."""
    parser = argparse.ArgumentParser(prog="python -m stages.tag", description=__doc__)
    parser.add_argument("recordings", type=Path, nargs="+", metavar="RECORDING_OR_FOLDER")
    parser.add_argument("--system", help="default: submission of --params, such as cnn_vggish_coarse")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the trained systems")
    parser.add_argument("--pipeline", type=Path, default=Path("dvc.yaml"), help="for the systems' names")
    parser.add_argument("--format", choices=[*TEXTS, "audacity"], default="table")
    parser.add_argument("--window", type=float, default=10.0, help="seconds, at most 10, the default")
    parser.add_argument("--hop", type=float, default=5.0, help="seconds from window to window, default 5")
    parser.add_argument("--threshold", type=float, default=0.5, help="of Audacity's labels, default 0.5")
    parser.add_argument("--out", type=Path, help="file to write; for audacity a folder, with a file for each")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, writes=["out"])
    submission, hierarchical, baseline, compute = params.load(
        args.params, "submission", "hierarchical", "baseline", "compute"
    )
    device = prepare(device=compute.device, threads=compute.threads)
    tagger = Tagger.load(
        model_folder(args.models, args.system or submission, checkpoints(args.pipeline)),
        **hierarchical.model_dump(),
        **baseline.model_dump(),
        device=device,
    )
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
            text = tagging.audacity(windows, tagger.taxonomy, args.threshold)
            write(args.out and args.out / f"{name}.txt", text)
    elif tagged:
        write(args.out, TEXTS[args.format](tagged, tagger.taxonomy))
    if bad:
        raise UserError(f"{len(bad)} of {len(recordings)} recordings cannot be tagged:\n{listing(bad)}")
    windows = sum(len(windows) for windows in tagged.values())
    done("%s: %d recordings, %d windows", args.out or "tagged", len(tagged), windows)


def write(path: Path | None, text: str) -> None:
    """To a file, or to the terminal."""
    if path is None:
        sys.stdout.write(text)
    else:
        with replacing(path) as partial:
            partial.write_text(text, "utf-8")
        log.debug("%s", path)


if __name__ == "__main__":
    run(main)
