"""Export a trained system as ONNX with its front end and a model card, after a check against PyTorch.

With --format folder, write safetensors and JSON for ust.Tagger.load instead.
"""

import argparse
import copy
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ust.cli.console import log, log_done, parse_args, progress
from ust.cli.tag import add_system_options, collect_recordings, load_tagger, resolve_system
from ust.util.errors import UserError, plural

if TYPE_CHECKING:
    import numpy as np

CARD = "MODEL_CARD.md"
SYNTHETIC_CLIPS, SEED = 4, 2019


def main(prog: str = "python -m stages.export", argv: Sequence[str] | None = None) -> None:
    """Write a folder with model.onnx and MODEL_CARD.md, or with a packed system."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("out", metavar="OUT", type=Path, help="folder to write; the system is --system")
    add("second", nargs="?", help=argparse.SUPPRESS)
    add_system_options(parser)
    add("--format", choices=("onnx", "folder"), default="onnx")
    add(
        "--audio",
        type=Path,
        help="recordings for the check, default: the project's, those of validate, or synthetic ones",
    )
    add("--clips", type=int, default=16, help="largest number of clips to check, default 16")
    add("--metrics", type=Path, default=Path("metrics/details"), help="folder with SYSTEM.json")
    add("--dataset", type=Path, default=Path("data/raw/dataset.json"), help="JSON file of the stage download")
    args = parse_args(parser, replaces=["out"], argv=argv)
    if args.second:
        parser.error(
            f"one folder is written; --system names the system: {prog} {args.second} --system {args.out}"
        )
    if args.clips < 1:
        parser.error(f"--clips is {args.clips}, should be at least 1")
    from ust.tagging.locate import is_project

    if is_project(args.out):
        raise UserError(f"{args.out}: is a project of ust init, which is never replaced; name another folder")
    if args.format == "folder":
        _pack(args)
        return

    from ust.audio.recordings import SAMPLE_RATE
    from ust.custom.project import DETAILS, METRICS
    from ust.datasets.collection import Collection
    from ust.tagging.export import OPSET, compare_with_pytorch, custom_model_card, export_onnx, model_card
    from ust.tagging.front_ends import SAMPLES
    from ust.tagging.locate import ONNX_MODEL
    from ust.tagging.tagger import Tagger
    from ust.util.accelerate import accelerate
    from ust.util.documents import read_json
    from ust.util.folders import atomic_folder

    # The graph computes in float32, whatever precision extraction used. It is exported from the plain layers
    # and compared with the faster ones, which the other commands use.
    system, plain, threads = load_tagger(args, device="cpu", float32=True, fast=False)
    tagger = Tagger(accelerate(copy.deepcopy(plain.system)), plain.front_ends)
    project = _find_project(args)
    system = project.resolve().name if project else system
    samples = _read_clips(args.audio, project, args.clips)

    with atomic_folder(args.out, by="export", force=args.force) as partial:
        model = partial / ONNX_MODEL
        log.info("exporting %s", system)
        export_onnx(plain, model, properties={"system": system})
        checked = progress(samples, total=len(samples), description="checking")
        result = compare_with_pytorch(model, tagger, checked, threads=threads)
        metadata = tagger.system.metadata
        content = {
            "system": system, "metadata": {"versions": None} | metadata, "labels": metadata["taxonomy"],
            "size": model.stat().st_size, "opset": OPSET, "samples": SAMPLES, "sample_rate": SAMPLE_RATE,
            "features": metadata["features"],
        }  # fmt: skip
        if project and (project / DETAILS).is_file():
            lengths = Collection(project).clips()[["start", "end"]].astype(float)
            card = custom_model_card(
                metrics=read_json(project / METRICS, made_by="ust train"),
                details=read_json(project / DETAILS, made_by="ust train"),
                names=tagger.taxonomy.names, seconds=(lengths["end"] - lengths["start"]).median(), **content,
            )  # fmt: skip
        else:
            metrics, dataset = args.metrics / f"{system}.json", args.dataset
            card = model_card(
                metrics=read_json(metrics, made_by="evaluate") if metrics.is_file() else None,
                dataset=read_json(dataset, made_by="download") if dataset.is_file() else None, **content,
            )  # fmt: skip
        (partial / CARD).write_text(card, "utf-8")
    log.info(
        "on %s: probabilities differ by at most %.1e given the same embeddings, %.1e end to end; "
        "%.3f %% of the embedding values differ, by one step of 255; onnxruntime takes %.0f ms per clip, "
        "PyTorch %.0f",
        plural(result.clips, "clip"), result.max_error_same_features, result.max_error_end_to_end,
        100 * result.share_different, result.onnx_ms, result.pytorch_ms,
    )  # fmt: skip
    log_done("%s: %s, %.0f MB", args.out, ONNX_MODEL, (args.out / ONNX_MODEL).stat().st_size / 1e6)


def _find_project(args: argparse.Namespace) -> Path | None:
    """Return the project of ust init whose tagger is exported, None for other systems."""
    from ust.tagging.locate import PROJECT_MODEL, is_project

    if args.checkpoint or args.classes:  # which select the system audioset
        return None
    path = Path(args.system) if args.system else args.params.parent
    folders = (path, path.parent) if path.name == PROJECT_MODEL else (path,)
    return next((folder for folder in folders if is_project(folder)), None)


def _read_clips(audio: Path | None, project: Path | None, count: int) -> "list[np.ndarray]":
    """Return at most `count` clips: of a folder, of a project, of the split validate, or synthetic ones."""
    import numpy as np

    from ust.audio.recordings import SAMPLE_RATE, BadAudio, load_audio
    from ust.audio.suffixes import list_recordings
    from ust.datasets.source import AUDIO
    from ust.datasets.synthetic.scene import draw_scenes, render_scene
    from ust.util.seeding import random_stream

    if audio:
        paths = list(collect_recordings([audio]).values())
    else:
        folder = project / AUDIO if project else Path("data/raw/audio/validate")
        paths = list_recordings(folder) if folder.is_dir() else []
    if not paths:
        scenes = draw_scenes(SEED, "export", min(count, SYNTHETIC_CLIPS))
        log.info("checking with synthetic clips; --audio names recordings")
        rendered = (
            render_scene(scene, 0, random_stream(SEED, "export", str(n))) for n, scene in enumerate(scenes)
        )
        return [samples.astype(np.float32) for samples in rendered]

    def read() -> "Iterator[np.ndarray]":
        for path in paths:
            try:
                yield load_audio(path, SAMPLE_RATE)
            except BadAudio as error:
                log.warning("left out of the check: %s", error)

    samples = list(islice(read(), count))
    if not samples:
        raise UserError(f"{audio or folder}: no recording can be read; name others by --audio")
    return samples


def _pack(args: argparse.Namespace) -> None:
    """Write a packed system for `ust.Tagger.load`."""
    from ust.tagging.locate import find_networks
    from ust.tagging.pretrained import pack
    from ust.util.folders import atomic_folder

    name, system, inference_options, _ = resolve_system(args)
    with atomic_folder(args.out, by="export", force=args.force) as folder:
        pack(folder, name, system, find_networks(system), inference_options)
    log_done("%s: %s, for ust.Tagger.load and ust tag --system", args.out, name)
