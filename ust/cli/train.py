"""Train a tagger on the clips of a project that ust init made, and report its performance.

Writes model/ (for ust tag --system), report.html, metrics.json, details.json, predictions.csv,
learning_curve.csv, and the intermediate folders features/ and models/.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ust.cli.console import log, log_done, parse_args, progress
from ust.util.errors import plural


def main(prog: str = "ust train", argv: Sequence[str] | None = None) -> None:
    """Train, evaluate and pack the tagger."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder made by ust init")
    parser.add_argument(
        "--force", action="store_true", help="replace models/ and model/ even if they hold other files"
    )
    args = parse_args(parser, argv=argv)

    import pandas as pd

    from ust.custom.metrics import compute_metrics
    from ust.custom.project import CURVE, DETAILS, METRICS, MODELS, PACKED, PREDICTIONS, REPORT, read_settings
    from ust.custom.report import render_report
    from ust.custom.training import train
    from ust.datasets.collection import Collection
    from ust.evaluation.predictions import write_predictions
    from ust.tagging.audioset import weights_fetcher
    from ust.tagging.locate import PRETRAINED
    from ust.tagging.pretrained import pack
    from ust.util.documents import write_json
    from ust.util.files import write_text
    from ust.util.folders import atomic_folder
    from ust.util.tables import write_csv

    collection = Collection(args.folder)
    settings, _ = read_settings(args.folder)
    name = args.folder.resolve().name
    result = train(collection, weights_fetcher(args.folder), force=args.force, progress=progress)
    metrics, details = compute_metrics(result, bootstrap=settings.bootstrap, seed=2019)
    with atomic_folder(args.folder / PACKED, by="ust train", force=args.force) as folder:
        pack(folder, name, result.folder, args.folder / MODELS / PRETRAINED, {})
    predictions = pd.concat(result.predicted.values())
    values = predictions[list(result.taxonomy.labels)].to_numpy()
    write_predictions(args.folder / PREDICTIONS, list(predictions.index), values, result.taxonomy)
    write_csv(args.folder / CURVE, result.curve, float_format="%.6f")
    report = render_report(name, collection, result, metrics, details, settings.mistakes)
    write_text(args.folder / REPORT, report)
    write_json(args.folder / METRICS, metrics)
    write_json(args.folder / DETAILS, details)
    for split in result.evaluations:
        for level in result.taxonomy.levels:
            figures, interval = metrics[split][level], details["ci95"][split][level]["micro_auprc"]
            log.info(
                "%-22s %-6s micro AUPRC %.3f%s  micro F1 %.3f  calibration error %.3f",
                "train, out of fold:" if split == "train" else f"{split}:", level, figures["micro_auprc"],
                " [{:.3f}, {:.3f}]".format(*interval) if interval else "", figures["micro_f1"],
                figures["calibration_error"],
            )  # fmt: skip
    if metrics["twice_the_clips"]:
        log.info("twice the clips would give a micro AUPRC of about %.2f", metrics["twice_the_clips"])
    clips, packed = plural(len(result.labels), "labelled clip"), args.folder / PACKED
    log_done("%s: %s; use it by ust tag --system %s RECORDING", args.folder, clips, packed)
