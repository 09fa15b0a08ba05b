"""Export a trained system, front end included, as ONNX with a model card, and check it against PyTorch."""

import argparse
from pathlib import Path

from ust import params
from ust.audio import read_clip
from ust.card import model_card
from ust.clips import SAMPLE_RATE
from ust.console import done, log, parse, progress, run
from ust.device import prepare
from ust.end_to_end import SAMPLES
from ust.errors import UserError
from ust.export import OPSET, compare, export
from ust.files import read_json, replacing_folder
from ust.pipeline import checkpoints, model_folder
from ust.tagger import Tagger

MODEL, CARD = "model.onnx", "MODEL_CARD.md"


def main() -> None:
    """Write a folder with model.onnx and MODEL_CARD.md."""
    parser = argparse.ArgumentParser(prog="python -m stages.export", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--system", help="default: submission of --params, such as cnn_vggish_coarse")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the trained systems")
    parser.add_argument("--pipeline", type=Path, default=Path("dvc.yaml"), help="for the systems' names")
    parser.add_argument(
        "--audio", type=Path, default=Path("data/raw/audio/validate"), help="folder of clips to check with"
    )
    parser.add_argument("--clips", type=int, default=16, help="to check with at most, default 16")
    parser.add_argument("--metrics", type=Path, default=Path("metrics"), help="folder of SYSTEM.json")
    parser.add_argument("--dataset", type=Path, default=Path("data/raw/dataset.json"), help="of download")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, replaces=["out"])
    submission, hierarchical, baseline, compute = params.load(
        args.params, "submission", "hierarchical", "baseline", "compute"
    )
    prepare(device="cpu", threads=compute.threads)
    system = args.system or submission
    names = checkpoints(args.pipeline)
    tagger = Tagger.load(
        model_folder(args.models, system, names), **hierarchical.model_dump(), **baseline.model_dump()
    )
    if tagger.embedder:
        tagger.embedder.half = False  # as the graph, whatever vggish.precision is
    clips = sorted(path for path in args.audio.glob("*") if path.is_file())[: args.clips]
    if not clips:
        raise UserError(
            f"{args.audio}: no clips to check with; the stage download makes them, or name --audio"
        )

    with replacing_folder(args.out, by="export", force=args.force) as partial:
        model = partial / MODEL
        log.info("exporting %s", system)
        export(tagger, model, properties={"system": system})
        samples = [read_clip(path, SAMPLE_RATE) for path in clips]
        checked = progress(samples, total=len(samples), description="checking")
        found = compare(model, tagger, checked, threads=compute.threads)
        about = tagger.system.about
        metrics, dataset = args.metrics / f"{system}.json", args.dataset
        card = model_card(
            metrics=read_json(metrics, made_by="evaluate") if metrics.is_file() else None,
            dataset=read_json(dataset, made_by="download") if dataset.is_file() else None,
            system=system, about={"versions": None} | about, labels=about["taxonomy"],
            size=model.stat().st_size, opset=OPSET, samples=SAMPLES, sample_rate=SAMPLE_RATE,
            vggish=about.get("vggish"),
        )  # fmt: skip
        (partial / CARD).write_text(card, "utf-8")
    log.info(
        "on %d clips: probabilities within %.1e of PyTorch's, %.3f %% of the embedding values a step of 255 "
        "off, with both %.1e; %.0f ms a clip with onnxruntime, %.0f with PyTorch",
        *(found.clips, found.head, 100 * found.off, found.end_to_end, found.onnx_ms, found.pytorch_ms),
    )
    done("%s: %s, %.0f MB", args.out, MODEL, (args.out / MODEL).stat().st_size / 1e6)


if __name__ == "__main__":
    run(main)
