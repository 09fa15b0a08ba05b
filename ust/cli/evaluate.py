"""Score predictions of any system with the official metrics of DCASE 2019 Task 5 and bootstrap intervals."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ust.cli.console import log, log_done, parse_args

if TYPE_CHECKING:
    from ust.annotations.taxonomy import Taxonomy

MODEL_KEYS = ("architecture", "epoch", "epochs", "converged", "outputs", "parameters",
         "spatiotemporal_context")  # fmt: skip


def parse_arguments(prog: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("predictions", type=Path, help="CSV in the official submission layout")
    add("annotations", type=Path, help="CSV with ground truth; may lack the fine columns and the split")
    add("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    add("out", type=Path, help="JSON file to write the headline metrics to")
    add("--split", choices=["train", "validate", "test"], help="default: evaluate.split of --params")
    add("--details", type=Path, help="JSON file to write all metrics to: intervals, labels, provenance")
    add("--curves", type=Path, help="folder to write the tables of the plots to")
    add("--train-predictions", type=Path, help="CSV of predictions for train, to choose thresholds")
    add("--labels", type=Path, help="CSV with the labels of the train clips")
    add("--dataset", type=Path, help="dataset.json of the stage download, to record the data source")
    add("--model", type=Path, help="model folder, to record the model's provenance")
    add("--params", type=Path, default=Path("params.yaml"), help="file with the section evaluate, if any")
    args = parse_args(parser, writes=["out", "details"], argv=argv)
    if (args.train_predictions is None) != (args.labels is None):
        parser.error("--train-predictions and --labels go together")
    return args


def train_thresholds(predictions: Path, labels: Path, taxonomy: "Taxonomy") -> dict[str, float]:
    """Return, for each label, the threshold with the highest F1 on train."""
    from ust.annotations.labels import read_labels
    from ust.evaluation.calibration import best_thresholds
    from ust.evaluation.predictions import read_predictions

    train = read_labels(labels, taxonomy).query("split == 'train'")
    predicted, _ = read_predictions(predictions, list(train.index), taxonomy)
    names = list(taxonomy.labels)
    return best_thresholds(train[names].to_numpy(), predicted[names].to_numpy(), names)


def collect_provenance(
    dataset: dict[str, Any], model: dict[str, Any], **scored: str | int
) -> dict[str, str | int]:
    """Return the provenance of the metrics: the scored clips, the data source and the model."""
    content = scored
    if dataset:
        content["data_source"] = dataset["source"]
        if dataset.get("release"):
            content["data_release"] = dataset["release"]
    metadata = model.get("metadata", {})
    content |= {key: metadata[key] for key in MODEL_KEYS if key in metadata}
    for name, attributes in metadata.get("features", {}).items():
        content |= {f"{name}_{key}": attributes[key] for key in ("weights", "sha256") if key in attributes}
    return content


def main(prog: str = "python -m stages.evaluate", argv: Sequence[str] | None = None) -> None:
    """Write the headline metrics and, on request, all metrics and the tables of the plots."""
    args = parse_arguments(prog, argv)

    from ust.annotations.annotations import read_coarse_mode, read_ground_truth
    from ust.annotations.taxonomy import read_taxonomy
    from ust.evaluation.config import read_evaluate
    from ust.evaluation.curves import calibration_errors, curves
    from ust.evaluation.evaluation import Evaluation, detailed_metrics, headline_metrics
    from ust.util.documents import read_json, write_json
    from ust.util.names import MODEL_FILE
    from ust.util.tables import write_csv

    settings = read_evaluate(args.params)
    split = args.split or settings.split
    taxonomy = read_taxonomy(args.taxonomy)
    coarse = read_coarse_mode(args.params)
    truth, others = read_ground_truth(args.annotations, taxonomy, split, coarse)
    evaluation = Evaluation.read(args.predictions, truth, taxonomy, others=others)
    intervals = evaluation.intervals(count=settings.bootstrap, seed=settings.seed)

    dataset = read_json(args.dataset, made_by="download") if args.dataset else {}
    model = read_json(args.model / MODEL_FILE, made_by="train") if args.model else {}
    provenance = collect_provenance(
        dataset, model, split=split, clips=len(truth), sensors=truth["sensor_id"].nunique(), coarse=coarse
    )
    thresholds = model.get("metadata", {}).get("thresholds")
    if args.details and thresholds is None and args.labels:
        thresholds = train_thresholds(args.train_predictions, args.labels, taxonomy)
    metrics = detailed_metrics(evaluation, intervals, thresholds)
    if args.details:
        errors = calibration_errors(evaluation, model)
        write_json(args.details, metrics | errors | {"provenance": provenance})
    for name, table in curves(evaluation, intervals).items() if args.curves else ():
        write_csv(args.curves / f"{name}.csv", table, float_format="%.6f")
    write_json(args.out, headline_metrics(evaluation))

    for key, value in provenance.items():
        if key.endswith("_weights") and value == "random":
            name = {"vggish_weights": "VGGish"}.get(key, key.removesuffix("_weights"))
            log.warning(
                "warning: the %s weights are random, not AudioSet's; the figures do not measure %s",
                *(name, name),
            )
    for level in taxonomy.levels:
        if level not in evaluation.taxonomy.levels:
            log.info("the %s level is not scored: %s has no %s columns", level, args.annotations, level)
        elif level not in evaluation.levels:
            path = args.predictions
            log.info("the %s level is not scored: %s has no %s probability above 0", level, path, level)
    for level in evaluation.levels:
        low, high = metrics["ci95"]["clips"][level]["micro_auprc"]
        log.info(
            "%-6s  micro AUPRC %.4f [%.4f, %.4f]  micro F1 %.4f  macro AUPRC %.4f  "
            "(constant prediction: %.4f)",
            *(level, metrics[level]["micro_auprc"], low, high, metrics[level]["micro_f1"]),
            *(metrics[level]["macro_auprc"], metrics["constant"][level]["micro_auprc"]),
        )
    unverified = f" ({len(others)} more have not been verified)" if others else ""
    log_done("%s: %d %s clips%s", args.out, len(truth), split, unverified)
