"""Export a trained system, front end included, as ONNX with a model card, and check it against PyTorch."""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

from ust.commands.console import done, log, parse, progress
from ust.commands.tag import add_system, load_tagger
from ust.files.errors import UserError

MODEL, CARD = "model.onnx", "MODEL_CARD.md"


def main(prog: str = "python -m stages.export", words: Sequence[str] | None = None) -> None:
    """Write a folder with model.onnx and MODEL_CARD.md."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    add_system(parser)
    parser.add_argument(
        "--audio", type=Path, default=Path("data/raw/audio/validate"), help="folder of clips to check with"
    )
    parser.add_argument("--clips", type=int, default=16, help="to check with at most, default 16")
    parser.add_argument("--metrics", type=Path, default=Path("metrics"), help="folder of SYSTEM.json")
    parser.add_argument("--dataset", type=Path, default=Path("data/raw/dataset.json"), help="of download")
    args = parse(parser, replaces=["out"], words=words)

    from ust.audio.clips import SAMPLE_RATE
    from ust.audio.recordings import load_audio
    from ust.compute.accelerate import accelerate
    from ust.files.documents import read_json
    from ust.files.folders import replacing_folder
    from ust.tagging.card import model_card
    from ust.tagging.export import OPSET, check, export
    from ust.tagging.front_ends import SAMPLES
    from ust.tagging.tagger import Tagger

    # As the graph computes, whatever the features' precision; of plain layers, and of faster ones beside.
    system, plain, threads = load_tagger(args, device="cpu", precise=True, fast=False)
    tagger = Tagger(accelerate(copy.deepcopy(plain.system)), plain.front_ends)
    clips = sorted(path for path in args.audio.glob("*") if path.is_file())[: args.clips]
    if not clips:
        raise UserError(
            f"{args.audio}: no clips to check with; the stage download makes them, or name --audio"
        )

    with replacing_folder(args.out, by="export", force=args.force) as partial:
        model = partial / MODEL
        log.info("exporting %s", system)
        export(plain, model, properties={"system": system})
        samples = [load_audio(path, SAMPLE_RATE) for path in clips]
        checked = progress(samples, total=len(samples), description="checking")
        found = check(model, tagger, checked, threads=threads)
        about = tagger.system.about
        metrics, dataset = args.metrics / f"{system}.json", args.dataset
        card = model_card(
            metrics=read_json(metrics, made_by="evaluate") if metrics.is_file() else None,
            dataset=read_json(dataset, made_by="download") if dataset.is_file() else None,
            system=system, about={"versions": None} | about, labels=about["taxonomy"],
            size=model.stat().st_size, opset=OPSET, samples=SAMPLES, sample_rate=SAMPLE_RATE,
            features=about["features"],
        )  # fmt: skip
        (partial / CARD).write_text(card, "utf-8")
    log.info(
        "on %d clips: probabilities within %.1e of PyTorch's, %.3f %% of the embedding values a step of 255 "
        "off, with both %.1e; %.0f ms a clip with onnxruntime, %.0f with PyTorch",
        *(found.clips, found.head, 100 * found.off, found.end_to_end, found.onnx_ms, found.pytorch_ms),
    )
    done("%s: %s, %.0f MB", args.out, MODEL, (args.out / MODEL).stat().st_size / 1e6)
