"""Export a trained system as ONNX with its front end and a model card, after a check against PyTorch.

With --format folder, write safetensors and JSON for ust.Tagger.load instead.
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

from ust.cli.console import log, log_done, parse_args, progress
from ust.cli.tag import add_system_options, load_tagger, resolve_system
from ust.util.errors import UserError

MODEL, CARD = "model.onnx", "MODEL_CARD.md"


def main(prog: str = "python -m stages.export", argv: Sequence[str] | None = None) -> None:
    """Write a folder with model.onnx and MODEL_CARD.md, or with a packed system."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("out", metavar="OUT", type=Path, help="folder to write; the system is --system")
    add_system_options(parser)
    add("--format", choices=("onnx", "folder"), default="onnx")
    add("--audio", type=Path, help="folder of clips for the check, default: validate's, or the project's")
    add("--clips", type=int, default=16, help="largest number of clips to check, default 16")
    add("--metrics", type=Path, default=Path("metrics/details"), help="folder with SYSTEM.json")
    add("--dataset", type=Path, default=Path("data/raw/dataset.json"), help="JSON file of the stage download")
    args = parse_args(parser, replaces=["out"], argv=argv)
    if args.format == "folder":
        _pack(args)
        return

    from ust.audio.recordings import SAMPLE_RATE, load_audio
    from ust.custom.project import DETAILS, METRICS
    from ust.datasets.collection import Collection
    from ust.datasets.source import AUDIO
    from ust.tagging.export import OPSET, compare_with_pytorch, custom_model_card, export_onnx, model_card
    from ust.tagging.front_ends import SAMPLES
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
    audio = args.audio or (project / AUDIO if project else Path("data/raw/audio/validate"))
    clips = sorted(path for path in audio.glob("*") if path.is_file())[: args.clips]
    if not clips:
        raise UserError(
            f"{audio}: no clips to check with; run the stage download, or name a folder by --audio"
        )

    with atomic_folder(args.out, by="export", force=args.force) as partial:
        model = partial / MODEL
        log.info("exporting %s", system)
        export_onnx(plain, model, properties={"system": system})
        samples = [load_audio(path, SAMPLE_RATE) for path in clips]
        checked = progress(samples, total=len(samples), description="checking")
        result = compare_with_pytorch(model, tagger, checked, threads=threads)
        metadata = tagger.system.metadata
        content = {
            "system": system, "metadata": {"versions": None} | metadata, "labels": metadata["taxonomy"],
            "size": model.stat().st_size, "opset": OPSET, "samples": SAMPLES, "sample_rate": SAMPLE_RATE,
            "features": metadata["features"],
        }  # fmt: skip
        if project:
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
        "on %d clips: probabilities differ by at most %.1e given the same embeddings, %.1e end to end; "
        "%.3f %% of the embedding values differ, by one step of 255; onnxruntime takes %.0f ms per clip, "
        "PyTorch %.0f",
        result.clips, result.max_error_same_features, result.max_error_end_to_end,
        100 * result.share_different, result.onnx_ms, result.pytorch_ms,
    )  # fmt: skip
    log_done("%s: %s, %.0f MB", args.out, MODEL, (args.out / MODEL).stat().st_size / 1e6)


def _find_project(args: argparse.Namespace) -> Path | None:
    """Return the project of ust init if its trained tagger is exported, None for other systems."""
    from ust.custom.project import DETAILS
    from ust.tagging.locate import is_project

    path = Path(args.system) if args.system else args.params.parent
    project = next((folder for folder in (path, path.parent) if is_project(folder)), None)
    return project if project and (project / DETAILS).is_file() else None


def _pack(args: argparse.Namespace) -> None:
    """Write a packed system for `ust.Tagger.load`."""
    from ust.tagging.locate import find_networks
    from ust.tagging.pretrained import pack
    from ust.util.folders import atomic_folder

    name, system, inference_options, _ = resolve_system(args)
    with atomic_folder(args.out, by="export", force=args.force) as folder:
        pack(folder, name, system, find_networks(system), inference_options)
    log_done("%s: %s, for ust.Tagger.load and ust tag --system", args.out, name)
