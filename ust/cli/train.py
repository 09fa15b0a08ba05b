"""Train a tagger on the clips of a folder that ust init made, and say how good it is.

Writes model/, which ust tag --system takes, report.html, metrics.json, predictions.csv, learning_curve.csv;
features/ and models/ are what they were made of.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ust.cli.console import log, log_done, parse_args, progress

if TYPE_CHECKING:
    from ust.features.feature import FetchFile


def main(prog: str = "ust train", words: Sequence[str] | None = None) -> None:
    """Train, judge, and pack the tagger."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of ust init")
    parser.add_argument("--force", action="store_true", help="replace models/ and model/ whatever is in them")
    args = parse_args(parser, words=words)

    import pandas as pd

    from ust.custom.project import CURVE, METRICS, MODELS, PACKED, PREDICTIONS, REPORT, read_settings
    from ust.custom.report import figures, report
    from ust.custom.training import train
    from ust.datasets.collection import Collection
    from ust.evaluation.predictions import write_predictions
    from ust.tagging.pretrained import pack
    from ust.util.documents import write_json
    from ust.util.files import atomic_write
    from ust.util.folders import atomic_folder

    collection = Collection(args.folder)
    own, _ = read_settings(args.folder)
    name = args.folder.resolve().name
    trained = train(collection, weights_fetcher(args.folder), force=args.force, progress=progress)
    metrics = figures(trained, bootstrap=own.bootstrap, seed=2019)
    with atomic_folder(args.folder / PACKED, by="ust train", force=args.force) as folder:
        pack(folder, name, trained.folder, args.folder / MODELS / "features", {})
    everything = pd.concat(trained.predicted.values())
    values = everything[list(trained.taxonomy.labels)].to_numpy()
    write_predictions(args.folder / PREDICTIONS, list(everything.index), values, trained.taxonomy)
    with atomic_write(args.folder / CURVE) as partial:
        trained.curve.to_csv(partial, index=False, float_format="%.6f", lineterminator="\n")
    with atomic_write(args.folder / REPORT) as partial:
        partial.write_text(report(name, collection, trained, metrics, own.mistakes), "utf-8")
    write_json(args.folder / METRICS, metrics)
    for split in trained.evaluations:
        for level in trained.taxonomy.levels:
            low, high = metrics[split]["ci95"]["sensors"][level]["micro_auprc"]
            log.info(
                "%-22s %-6s micro AUPRC %.3f [%.3f, %.3f]  calibration error %.3f",
                "train, out of fold:" if split == "train" else f"{split}:", level,
                metrics[split][level]["micro_auprc"], low, high, metrics[split]["ece"][level],
            )  # fmt: skip
    if metrics["twice_the_clips"]:
        log.info("twice the clips would give about %.2f (%.2f to %.2f)", *metrics["twice_the_clips"])
    log_done(
        "%s: %d labelled clips; ust tag --system %s RECORDING",
        args.folder,
        len(trained.labels),
        args.folder / PACKED,
    )


def weights_fetcher(folder: Path) -> "FetchFile":
    """Gives the place of a file of weights: in or beside a folder, or downloaded to the cache."""
    from ust.datasets.download import cache_folder, download_file

    def place(source: str, *, checksum: str | None = None) -> Path:
        if "://" not in source:
            return folder / source
        return download_file(source, cache_folder() / "mn", name=source.rpartition("/")[2], checksum=checksum)

    return place
