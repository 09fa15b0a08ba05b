"""Compare the number of labels that active learning and random selection need.

    python -m benchmarks.active MY-CITY [--seeds 10] [--batch 20]

The train clips of a project that `ust train` has trained count as unlabelled. In each round, a strategy
selects a batch of them, their labels are revealed, and the head is trained again and scored on validate.
Writes active.json and active.png.
"""

import argparse
import json
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
ENOUGH = 0.95  # of the score with all labels


def read(folder: Path) -> tuple:
    """Return the system, train and validate examples, and the taxonomy of a project."""
    from ust.custom.project import FEATURES, PARAMS, SYSTEM
    from ust.custom.training import aggregate_labels
    from ust.datasets.collection import Collection
    from ust.features.store import open_feature_files
    from ust.models.examples import select_examples
    from ust.training.registry import read_system_config

    collection = Collection(folder)
    config = read_system_config(folder / PARAMS, SYSTEM)
    labels = aggregate_labels(collection, config.row.labels)
    columns = list(collection.taxonomy.labels)
    sensors = collection.clips()["sensor_id"].to_dict()
    parts = []
    with open_feature_files(folder / FEATURES, config.inputs, cache_gib=4) as features:
        (file,) = features.values()
        for split in ("train", "validate"):
            examples = select_examples(split, labels, columns, features, variants=False, sensors=sensors)
            parts.append((file[examples.rows], examples.targets, examples.groups))
    return config, *parts, collection.taxonomy


class Learner:
    """Trains and calibrates a head on some of the clips, as `ust train` does."""

    def __init__(self, config, train: tuple, taxonomy, decay: float) -> None:
        self.config, self.taxonomy, self.decay = config, taxonomy, decay
        self.x, self.y, self.sensors = train

    def fit(self, rows: np.ndarray, name: str):
        """Train the network on some of the train clips."""
        import torch

        from ust.models.checkpoints import build_initialized
        from ust.models.examples import TensorExamples
        from ust.training.trainer import fit_classifier

        config, settings = self.config, self.config.training
        shapes = dict.fromkeys(config.inputs, self.x.shape[1:])
        outputs = self.y.shape[1]
        network = build_initialized(
            config.row.architecture, config.model, outputs, shapes, settings.seed, name
        )
        steps = {key: getattr(settings, key) for key in ("lr", "batch_size", "max_epochs", "seed", "mixup")}
        values = dict.fromkeys(config.inputs, torch.from_numpy(self.x[rows]))
        examples = TensorExamples(values, torch.from_numpy(self.y[rows]))
        fit_classifier(network, examples, name=name, weight_decay=self.decay, **steps)
        return network.eval()

    def __call__(self, rows: np.ndarray, *embeddings: np.ndarray) -> list[np.ndarray]:
        """Train on some of the train clips; return the calibrated probabilities of embeddings."""
        import torch

        from ust.evaluation.calibration import fit_calibration
        from ust.training.cross_validation import group_folds

        def predict(network, x: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return torch.sigmoid(network(torch.from_numpy(x))).numpy()

        out_of_fold = np.zeros((len(rows), self.y.shape[1]))
        groups = self.sensors[rows]
        for train, fold in group_folds(groups, min(3, len(np.unique(groups)))):
            out_of_fold[fold] = predict(self.fit(rows[train], "fold"), self.x[rows[fold]])
        calibration = fit_calibration(out_of_fold, self.y[rows])
        network = self.fit(rows, "all")
        return [calibration(predict(network, x)) for x in embeddings]


def simulate(learner: Learner, validate: tuple, strategy: str, seed: int, batch: int) -> list[float]:
    """Return the scores on validate after each batch of labels."""
    from ust.custom.active_learning import STRATEGIES, ReviewState
    from ust.training.train import flat_score
    from ust.util.seeding import random_stream

    score = flat_score(list(learner.taxonomy.labels), validate[1] > 0.5, learner.taxonomy)
    labelled = np.zeros(len(learner.x), bool)
    labelled[random_stream(seed, "first").permutation(len(labelled))[:batch]] = True
    scores = []
    while True:
        rows = np.flatnonzero(labelled)
        train_predicted, predicted = learner(rows, learner.x, validate[0])
        scores.append(float(np.mean(list(score(predicted).values()))))
        if labelled.all():
            return scores
        state = ReviewState(train_predicted, learner.x, learner.y, labelled)
        labelled[STRATEGIES[strategy](state, batch, seed * 1000 + len(rows))] = True


def labels_needed(scores: list[float], sizes: np.ndarray) -> int:
    """Return the number of labels from which the score stays above 95 % of the score with all labels."""
    enough = np.array(scores) >= ENOUGH * scores[-1]
    below = np.flatnonzero(~enough)
    return int(sizes[below[-1] + 1 if len(below) else 0])


def main() -> None:
    """Simulate both strategies with every seed; write and plot the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.active",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--decay", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "active.json")
    args = parser.parse_args()

    from joblib import Parallel, delayed
    from matplotlib.figure import Figure

    config, train, validate, taxonomy = read(args.folder)
    learner = Learner(config, train, taxonomy, args.decay)
    tasks = [(strategy, seed) for strategy in ("random", "uncertain") for seed in range(args.seeds)]
    courses = Parallel(n_jobs=2)(
        delayed(simulate)(learner, validate, strategy, seed, args.batch) for strategy, seed in tasks
    )
    sizes = np.minimum(args.batch * np.arange(1, len(courses[0]) + 1), len(train[0]))
    result: dict = {"train": len(train[0]), "validate": len(validate[0]), "labels": sizes.tolist()}
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for number, strategy in enumerate(("random", "uncertain")):
        scores = np.array(
            [course for (name, _), course in zip(tasks, courses, strict=True) if name == strategy]
        )
        counts = [labels_needed(list(course), sizes) for course in scores]
        result[strategy] = {
            "needed": counts,
            "needed_median": float(np.median(counts)),
            "mean_score": np.round(scores.mean(axis=0), 4).tolist(),
        }
        axes.plot(sizes, scores.mean(axis=0), label=f"{strategy}, {args.seeds} seeds", color=f"C{number}")
        axes.fill_between(sizes, scores.min(axis=0), scores.max(axis=0), alpha=0.2, color=f"C{number}")
    difference = np.array(result["uncertain"]["needed"]) - np.array(result["random"]["needed"])
    draws = np.random.default_rng(0).choice(difference, (10_000, len(difference))).mean(axis=1)
    result["fewer_labels"] = {
        "mean": float(-difference.mean()),
        "ci95": [float(value) for value in np.quantile(-draws, [0.025, 0.975])],
    }
    axes.axhline(ENOUGH * np.mean([course[-1] for course in courses]), color="#888888", linewidth=1)
    axes.set(xlabel="labelled clips", ylabel="micro AUPRC of validate, mean of levels")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    figure.savefig(args.out.with_suffix(".png"), dpi=120, metadata={"Software": None})
    shown = {key: result[key] if key == "fewer_labels" else result[key]["needed_median"]
             for key in ("random", "uncertain", "fewer_labels")}  # fmt: skip
    print(json.dumps(shown, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
