"""Score any system's predictions by the official metrics of DCASE 2019 Task 5."""

import argparse
from pathlib import Path

from ust import params
from ust.annotations import ground_truth, read_annotations
from ust.console import log, run
from ust.evaluation import evaluate
from ust.files import read_json, replacing, write_json
from ust.predictions import read_predictions
from ust.taxonomy import read_taxonomy


def main() -> None:
    """Write the metrics as JSON and, if asked, the micro-averaged precision-recall curves as CSV."""
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument("predictions", type=Path, help="CSV in the official submission layout")
    parser.add_argument("annotations", type=Path, help="annotations.csv with ground truth (annotator_id 0)")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument(
        "--split", choices=["train", "validate", "test"], help="default: evaluate.split of --params"
    )
    parser.add_argument("--curves", type=Path, help="folder for the curves, coarse.csv and fine.csv")
    parser.add_argument(
        "--dataset", type=Path, help="dataset.json of the stage download, to name the data source"
    )
    parser.add_argument("--model", type=Path, help="model folder, to name what the predictions rest on")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    split = args.split or params.load(args.params, "evaluate")[0].split

    taxonomy = read_taxonomy(args.taxonomy)
    truth = ground_truth(read_annotations(args.annotations, taxonomy), split)
    predicted, missing = read_predictions(args.predictions, list(truth["audio_filename"]), taxonomy)
    metrics, curves = evaluate(truth, predicted, taxonomy)
    metrics["rests_on"] = {"split": split, "clips": len(truth)}
    if args.dataset:
        metrics["rests_on"]["data_source"] = read_json(args.dataset, made_by="download")["source"]
    if args.model:
        about = read_json(args.model / "model.json", made_by="train")["about"]
        metrics["rests_on"] |= {key: about[key] for key in ("epoch", "vggish_weights", "vggish_sha256")}

    if args.curves:
        for level, curve in curves.items():
            with replacing(args.curves / f"{level}.csv") as partial:
                curve.to_csv(partial, index=False, float_format="%.6f", lineterminator="\n")
    write_json(args.out, metrics)
    if missing:
        log.warning("warning: no column for %s; taken as 0", ", ".join(missing))
    if metrics["rests_on"].get("vggish_weights") == "random":
        log.warning(
            "warning: the VGGish weights are random, not AudioSet's: these figures say nothing of VGGish"
        )
    for level in ("fine", "coarse"):
        headline = (metrics[level][key] for key in ("micro_auprc", "micro_f1", "macro_auprc"))
        chance = metrics["prevalence"][level]["micro_auprc"]
        log.info(
            "%-6s  micro AUPRC %.4f  micro F1 %.4f  macro AUPRC %.4f  (prevalence: %.4f)",
            level,
            *headline,
            chance,
        )
    log.info("%s: %d %s clips", args.out, len(truth), split)


if __name__ == "__main__":
    run(main)
