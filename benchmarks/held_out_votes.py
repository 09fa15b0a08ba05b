"""Evaluate settings of the rule ``pooled``, its running time, and votes combined with predictions.

    python -m benchmarks.held_out_votes ANNOTATIONS.csv TAXONOMY.yaml
    python -m benchmarks.held_out_votes ANNOTATIONS.csv TAXONOMY.yaml --growth 10 50
    python -m benchmarks.held_out_votes ANNOTATIONS.csv TAXONOMY.yaml --predictions output*.csv

The settings of ``pooled`` were chosen by votes alone. Each volunteer of a clip is held out in turn, and the
posterior of the others' votes is scored against the held-out votes: micro average precision of fine and of
coarse labels. With --predictions, labels by votes, by predictions and by both are compared with the ground
truth, on the clips that have all three.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold

from ust.annotations.annotations import GROUND_TRUTH, read_annotations
from ust.annotations.rules.pooled import PooledConfig, clipped_logit, estimate_pooled, fit_annotator_model
from ust.annotations.rules.registry import read_label_quality
from ust.annotations.rules.relabel import LIMIT, RelabelConfig, estimate_relabel
from ust.annotations.rules.votes import collect_votes
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
from ust.evaluation.label_quality import evaluate_rules
from ust.evaluation.predictions import read_predictions
from ust.util.seeding import random_stream

# Each of these changes the settings of params.yaml in one place.
CHANGES = (
    {},
    {"anchor": 0.0}, {"anchor": 0.5}, {"anchor": 2.0},
    {"coupling": 0.0}, {"coupling": 0.4}, {"coupling": 1.0},
    {"correlation": 0.0}, {"correlation": 0.9},
    {"annotator_deviation": [0.5, 0.5]}, {"annotator_deviation": [2.0, 2.0]},
    {"label_deviation": [0.25, 0.25]}, {"label_deviation": [1.0, 1.0]}, {"label_deviation": [2.0, 2.0]},
    {"false_alarm": 0.007}, {"false_alarm": 0.047}, {"sensitivity": 0.38}, {"sensitivity": 0.62},
)  # fmt: skip
WEIGHTS = (0, 1, 2, 4, 6, 8, 10, 12, 16)  # of the fraction of votes, which is added to predicted logits


def held_out(
    annotations: pd.DataFrame, taxonomy: Taxonomy, settings: PooledConfig, *, seed: int
) -> list[float]:
    """Return the micro average precision of the held-out votes, fine and coarse."""
    people = annotations[annotations["annotator_id"] > GROUND_TRUTH]
    people = people.iloc[random_stream(seed, "held out").permutation(len(people))]
    turn = people.groupby("audio_filename").cumcount().to_numpy()
    labels, coarse = list(taxonomy.labels), len(taxonomy.coarse)
    scores = []
    for number in range(turn.max() + 1):
        votes = collect_votes(people[turn != number], taxonomy)
        posterior, _, _ = fit_annotator_model(votes, settings)
        test = people[(turn == number) & people["audio_filename"].isin(votes.clips)]
        predicted = posterior[pd.Index(votes.clips).get_indexer(test["audio_filename"])]
        present = (test[labels] == 1).to_numpy()
        scores.append(
            [
                average_precision_score(present[:, level].ravel(), predicted[:, level].ravel())
                for level in (slice(coarse, None), slice(None, coarse))
            ]
        )
    return np.mean(scores, axis=0).tolist()


def growth(annotations: pd.DataFrame, taxonomy: Taxonomy, settings: PooledConfig, times: list[int]) -> None:
    """Print the running time for multiples of the volunteers and their clips."""
    people = annotations[annotations["annotator_id"] > GROUND_TRUTH]
    for count in [1, *times]:
        copies = [
            people.assign(
                audio_filename=f"{i:03d}_" + people["audio_filename"],
                annotator_id=people["annotator_id"] + 10_000 * i,
            )
            for i in range(count)
        ]
        votes = collect_votes(pd.concat(copies), taxonomy)
        started = time.perf_counter()
        estimate_pooled(votes, settings)
        print(f"{len(votes.clip):>9,} rows  {time.perf_counter() - started:7.1f} s")  # noqa: T201


def compare_with_truth(
    annotations: pd.DataFrame, taxonomy: Taxonomy, settings: PooledConfig, paths: list[Path], *, seed: int
) -> None:
    """Print the average precision of votes, predictions and both, with 95 % intervals over clips."""
    truth = annotations[annotations["annotator_id"] == GROUND_TRUTH].set_index("audio_filename")
    votes = collect_votes(annotations, taxonomy)
    common = [set(pd.read_csv(path, usecols=["audio_filename"])["audio_filename"]) for path in paths]
    clips = sorted(set(truth.index) & set(votes.clips) & set.intersection(*common))
    tables = [read_predictions(path, clips, taxonomy, others=set.union(*common))[0] for path in paths]
    logits = [clipped_logit(table.to_numpy(), LIMIT) for table in tables]
    rows = pd.Index(votes.clips).get_indexer(clips)
    votes = replace(votes, split=np.where(np.isin(votes.clips, clips), "train", "other"))
    relabel = RelabelConfig(**dict(settings), model_outputs="predictions.csv")

    def relabel_by(values: np.ndarray) -> np.ndarray:
        predictions = pd.DataFrame(expit(values), clips, list(taxonomy.labels))
        return estimate_relabel(votes, relabel, predictions=predictions)[rows]

    y, fraction = (truth.loc[clips, list(taxonomy.labels)] == 1).to_numpy(), votes.fraction()[rows]
    mean = np.mean(logits, axis=0)
    estimates = {
        "fraction": fraction,
        "pooled": estimate_pooled(votes, settings)[rows],
        **{path.stem: table.to_numpy() for path, table in zip(paths, tables, strict=True)},
        "mean logit": mean,
        "mean logit + w fraction": _add_fraction(mean, fraction, y, votes.sensors[rows], taxonomy),
        **{f"relabel by {path.stem}": relabel_by(z) for path, z in zip(paths, logits, strict=True)},
        "relabel by mean logit": relabel_by(mean),
    }
    scores_of = evaluate_rules(y, estimates, taxonomy, bootstrap=1000, seed=seed)
    print(f"{len(clips)} clips")  # noqa: T201
    for name, levels in scores_of.items():
        cells = [
            f"{level} {scores['ap']:.3f} [{scores['ci95'][0]:.3f}, {scores['ci95'][1]:.3f}]"
            for level, scores in levels.items()
        ]
        print(f"{name:24} {'  '.join(cells)}")  # noqa: T201


def _add_fraction(
    logits: np.ndarray, fraction: np.ndarray, truth: np.ndarray, sensors: np.ndarray, taxonomy: Taxonomy
) -> np.ndarray:
    """Add the weighted fraction of votes; the weight is chosen by coarse AP on the other sensors' clips."""
    coarse, result = len(taxonomy.coarse), np.zeros_like(logits)
    for train, test in GroupKFold(5).split(logits, groups=sensors):
        scores = [
            average_precision_score(
                truth[train, :coarse].ravel(), (logits + weight * fraction)[train, :coarse].ravel()
            )
            for weight in WEIGHTS
        ]
        result[test] = (logits + WEIGHTS[int(np.argmax(scores))] * fraction)[test]
    return result


def main() -> None:
    """Print a line for each setting, or one of the other comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out_votes", description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("taxonomy", type=Path)
    parser.add_argument(
        "--growth", type=int, nargs="+", help="multiples of the rows whose running time to measure instead"
    )
    parser.add_argument("--predictions", type=Path, nargs="+", help="CSV files to compare instead")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    section, rules = read_label_quality(args.params)
    _, settings = rules[section.annotators]
    taxonomy = read_taxonomy(args.taxonomy)
    annotations = read_annotations(args.annotations, taxonomy)
    if args.predictions:
        compare_with_truth(annotations, taxonomy, settings, args.predictions, seed=section.seed)
        return
    if args.growth:
        growth(annotations, taxonomy, settings, args.growth)
        return
    for change in CHANGES:
        fine, coarse = held_out(annotations, taxonomy, settings.model_copy(update=change), seed=section.seed)
        name = ", ".join(f"{key} {value}" for key, value in change.items()) or "as in params.yaml"
        print(f"{name:36} fine {fine:.4f}  coarse {coarse:.4f}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
