"""Export a trained system: as ONNX, front end included, with a model card, checked against PyTorch; or, with
--format folder, as safetensors and JSON for ust.Tagger.from_pretrained."""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ust.cli.console import log, log_done, parse_args, progress
from ust.cli.tag import add_system, choose_system, load_tagger
from ust.util.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from ust.tagging.tagger import Tagger

MODEL, SMALL, CARD = "model.onnx", "model.int8.onnx", "MODEL_CARD.md"


def main(prog: str = "python -m stages.export", words: Sequence[str] | None = None) -> None:
    """Write a folder with model.onnx and MODEL_CARD.md, or what `ust.tagging.pretrained.pack` packs."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    add_system(parser)
    parser.add_argument("--format", choices=("onnx", "folder"), default="onnx")
    parser.add_argument("--int8", action="store_true", help=f"write {SMALL}, too, and say what 8 bits cost")
    parser.add_argument(
        "--audio", type=Path, default=Path("data/raw/audio/validate"), help="folder of clips to check with"
    )
    parser.add_argument("--clips", type=int, default=16, help="to check with at most, default 16")
    parser.add_argument("--metrics", type=Path, default=Path("metrics"), help="folder of SYSTEM.json")
    parser.add_argument("--dataset", type=Path, default=Path("data/raw/dataset.json"), help="of download")
    parser.add_argument(
        "--annotations", type=Path, default=Path("data/raw/annotations.csv"),
        help="of those clips, if there are any: the score with 8 bits",
    )  # fmt: skip
    args = parse_args(parser, replaces=["out"], words=words)
    if args.format == "folder":
        _pack(args)
        return

    from ust.audio.recordings import SAMPLE_RATE, load_audio
    from ust.tagging.export import OPSET, check, export, model_card
    from ust.tagging.front_ends import SAMPLES
    from ust.tagging.tagger import Tagger
    from ust.util.accelerate import accelerate
    from ust.util.documents import read_json
    from ust.util.folders import atomic_folder

    # As the graph computes, whatever the features' precision; of plain layers, and of faster ones beside.
    system, plain, threads = load_tagger(args, device="cpu", precise=True, fast=False)
    tagger = Tagger(accelerate(copy.deepcopy(plain.system)), plain.front_ends)
    clips = sorted(path for path in args.audio.glob("*") if path.is_file())[: args.clips]
    if not clips:
        raise UserError(
            f"{args.audio}: no clips to check with; the stage download makes them, or name --audio"
        )

    with atomic_folder(args.out, by="export", force=args.force) as partial:
        model = partial / MODEL
        log.info("exporting %s", system)
        export(plain, model, properties={"system": system})
        samples = [load_audio(path, SAMPLE_RATE) for path in clips]
        checked = progress(samples, total=len(samples), description="checking")
        found = check(model, tagger, checked, threads=threads)
        metadata = tagger.system.metadata
        metrics, dataset = args.metrics / f"{system}.json", args.dataset
        card = model_card(
            metrics=read_json(metrics, made_by="evaluate") if metrics.is_file() else None,
            dataset=read_json(dataset, made_by="download") if dataset.is_file() else None,
            system=system, metadata={"versions": None} | metadata, labels=metadata["taxonomy"],
            size=model.stat().st_size, opset=OPSET, samples=SAMPLES, sample_rate=SAMPLE_RATE,
            features=metadata["features"],
        )  # fmt: skip
        (partial / CARD).write_text(card, "utf-8")
        if args.int8:
            _quantise(partial, clips, samples, tagger, args.annotations, threads)
    log.info(
        "on %d clips: probabilities within %.1e of PyTorch's, %.3f %% of the embedding values a step of 255 "
        "off, with both %.1e; %.0f ms a clip with onnxruntime, %.0f with PyTorch",
        *(found.clips, found.head, 100 * found.off, found.end_to_end, found.onnx_ms, found.pytorch_ms),
    )
    log_done("%s: %s, %.0f MB", args.out, MODEL, (args.out / MODEL).stat().st_size / 1e6)


def _pack(args: argparse.Namespace) -> None:
    """Write the folder for `ust.Tagger.from_pretrained`."""
    from ust.tagging.pretrained import pack
    from ust.tagging.tagger import features_beside
    from ust.util.folders import atomic_folder

    name, system, inference_options, _ = choose_system(args)
    with atomic_folder(args.out, by="export", force=args.force) as folder:
        pack(folder, name, system, features_beside(system), inference_options)
    log_done("%s: %s, for ust.Tagger.from_pretrained and ust tag --system", args.out, name)


def _quantise(
    folder: Path,
    paths: "list[Path]",
    samples: "list[np.ndarray]",
    tagger: "Tagger",
    annotations: Path,
    threads: int,
) -> None:
    """Write the system in 8 bits, and say what that costs."""
    import numpy as np
    import pandas as pd

    from ust.annotations.annotations import read_annotations, select_ground_truth
    from ust.evaluation.evaluation import Evaluation
    from ust.tagging.quantise import compare, quantise

    layers = quantise(folder / MODEL, folder / SMALL, samples)
    cost = compare(folder / MODEL, folder / SMALL, samples, threads=threads)
    sizes = [(folder / name).stat().st_size / 1e6 for name in (MODEL, SMALL)]
    log.info(
        "8 bits: %d layers, %.1f MB instead of %.1f, %.0f ms a clip instead of %.0f, "
        "probabilities %.3f off on average",
        layers, sizes[1], sizes[0], cost.milliseconds["int8"], cost.milliseconds["float32"],
        float(np.abs(cost.probabilities["int8"] - cost.probabilities["float32"]).mean()),
    )  # fmt: skip
    if not annotations.exists():
        return
    truth = select_ground_truth(read_annotations(annotations, tagger.taxonomy), "validate")
    names = [path.name for path in paths]
    truth = truth.set_index("audio_filename").reindex(names).dropna().reset_index()
    rows = [names.index(name) for name in truth["audio_filename"]]
    if len(rows) < 2:
        return
    scores = {
        name: Evaluation.from_tables(
            truth, pd.DataFrame(found[rows].round(6), columns=list(tagger.taxonomy.labels)), tagger.taxonomy
        ).headlines()
        for name, found in cost.probabilities.items()
    }
    for level in tagger.taxonomy.levels:
        key = f"{level}.micro_auprc"
        text = "%-6s micro AUPRC of these %d clips: %.4f with 8 bits, %.4f without"
        log.info(text, level, len(rows), scores["int8"][key], scores["float32"][key])
