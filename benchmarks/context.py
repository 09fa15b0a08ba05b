"""Systems with and without time and place on a synthetic city whose sounds follow them.

    python -m benchmarks.context WORK [--checkpoint mn04_as_mAP_432.pt] [--train 180] [--validate 100]

WORK is a folder for the data, the models and the predictions; what is there already is kept. A network of
log-mels, of half the report's size, and a head on the embeddings of EfficientAT are trained with three seeds.
The table has the official metrics (means of the seeds) and their difference from the same system without
context, with the 95 % interval of a paired bootstrap over validate clips. "not given" is the system with
context, predicting without it.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from stages import aggregate_labels, download, extract, predict, preset, train, weights
from ust.annotations.annotations import read_ground_truth
from ust.annotations.taxonomy import read_taxonomy
from ust.evaluation.bootstrap import confidence_interval, draw_resamples
from ust.evaluation.evaluation import Evaluation
from ust.features.context import COLUMNS
from ust.util.documents import write_yaml

SEEDS = (0, 1, 2)
SYSTEMS = {
    "cnn": {"trainer": "train", "architecture": "cnn", "features": ["logmel"], "max_epochs": 5},
    "linear_mn": {
        "trainer": "train_head",
        "architecture": "head",
        "features": ["mn"],
        "weight_decay": [3.0, 10.0],
    },
}
CHECKPOINT = {"cnn": "/fine", "linear_mn": ""}  # folder below the system's
VARIANTS = ("without", "with", "not given")
METRICS = ("micro_auprc", "macro_auprc", "micro_f1")
RESAMPLES = 1000


def write_params(path: Path, checkpoint: Path | None, clips: dict[str, int]) -> None:
    """Write a parameter file with a row for each system, with and without context, and each seed."""
    rows, checkpoints = {}, {}
    for name, variant, seed in trained():
        system = f"{name}_{variant}_{seed}"
        options = {"labels": "majority", "outputs": "all", "seed": seed}
        rows[system] = SYSTEMS[name] | options | {"context": {} if variant == "with" else None}
        checkpoints[system] = {"model": system + CHECKPOINT[name]}
    _, params = preset.apply_changes(Path("params.yaml"), Path("presets"), ["pretrained"])
    params["data"] |= {"source": "synthetic", "synthetic": {"seed": 37, "context": True} | clips}
    params["efficientat"] |= {"weights": "mn04_as" if checkpoint else "random"}
    params["efficientat"] |= {"checkpoint": str(checkpoint.resolve()) if checkpoint else None}
    params["spectrograms"]["logmel"] |= {"hop_length": 832, "n_mels": 112}  # half of the time of training
    params["compute"] |= {"threads": 1}
    params |= {"systems": rows, "checkpoints": checkpoints}
    write_yaml(path, params)


def run_pipeline(work: Path) -> None:
    """Run the stages up to the predictions; stages whose outputs exist are skipped."""
    params = ("--params", str(work / "params.yaml"))
    raw, features, labels = work / "raw", work / "features", work / "labels"
    annotations, taxonomy = raw / "annotations.csv", raw / "dcase-ust-taxonomy.yaml"

    def run(stage, out: Path, *words: object) -> None:
        if not out.exists():
            stage.main([*map(str, words), *params])

    run(download, raw, raw)
    run(aggregate_labels, labels / "majority.csv", "majority", annotations, taxonomy, labels / "majority.csv")
    run(weights, work / "efficientat", "efficientat", work / "efficientat")
    for name, network in (("logmel", ()), ("mn", ("--network", work / "efficientat"))):
        words = (name, raw / "audio", work / "augmented", features / f"{name}.h5", *network)
        run(extract, features / f"{name}.h5", *words)
    bare = work / "without_context.csv"
    pd.read_csv(annotations, dtype=str).drop(columns=list(COLUMNS)).to_csv(bare, index=False)
    for name, variant, seed in trained():
        system = f"{name}_{variant}_{seed}"
        out = work / "models" / system
        words = (system, features, labels, taxonomy, out, work / "history" / f"{system}.csv")
        run(train, out, *words, "--annotations", annotations)
        for given, table in {variant: annotations, "not given": bare}.items():
            if given == "not given" and variant == "without":
                continue
            predictions = work / "predictions" / f"{name}_{given}_{seed}.csv"
            run(predict, predictions, system, work / "models", features, table, taxonomy, predictions)


def trained() -> Iterator[tuple[str, str, int]]:
    """Yield the name, the variant and the seed of each system to train."""
    for seed in SEEDS:
        for name in SYSTEMS:
            for variant in VARIANTS[:2]:
                yield name, variant, seed


def table(work: Path) -> str:
    """Return the comparison as a Markdown table."""
    raw = work / "raw"
    taxonomy = read_taxonomy(raw / "dcase-ust-taxonomy.yaml")
    truth, _ = read_ground_truth(raw / "annotations.csv", taxonomy, "validate")
    columns = [f"{level}.{metric}" for level in ("coarse", "fine") for metric in METRICS]
    titles = [column.replace(".", " ").replace("_", " ") for column in columns]
    lines = ["| system | context | " + " | ".join(titles) + " |", "| --- " * (2 + len(columns)) + "|"]
    draws = None
    for name in SYSTEMS:
        resampled = {}
        for variant in VARIANTS:
            paths = [work / "predictions" / f"{name}_{variant}_{seed}.csv" for seed in SEEDS]
            evaluations = [Evaluation.read(path, truth, taxonomy) for path in paths]
            if draws is None:
                draws = list(draw_resamples(evaluations[0].sensors, unit="clips", count=RESAMPLES, seed=2019))
            of_seeds = [
                e.bootstrap_metrics(draws, "coarse") | e.bootstrap_metrics(draws, "fine") for e in evaluations
            ]
            resampled[variant] = {key: np.mean([one[key] for one in of_seeds], axis=0) for key in columns}
            cells = []
            for column in columns:
                cell = f"{np.mean([evaluation.headlines()[column] for evaluation in evaluations]):.3f}"
                if variant != "without":
                    difference = resampled[variant][column] - resampled["without"][column]
                    cell += " [{:+.3f}, {:+.3f}]".format(*confidence_interval(difference))
                cells.append(cell)
            lines.append(f"| `{name}` | {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, predict, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.context", description=__doc__)
    parser.add_argument("work", type=Path, help="folder to write")
    parser.add_argument("--checkpoint", type=Path, help="published weights; by default they are random")
    parser.add_argument("--train", type=int, default=180, help="number of train clips")
    parser.add_argument("--validate", type=int, default=100, help="number of validate clips")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    clips = {"train": args.train, "validate": args.validate}
    write_params(args.work / "params.yaml", args.checkpoint, clips)
    run_pipeline(args.work)
    text = table(args.work)
    (args.work / "table.md").write_text(text, "utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
