"""How the rule ``pooled`` was set, how its time grows, and how well votes and predictions do together.

    python -m benchmarks.held_out_votes ANNOTATIONS.csv TAXONOMY.yaml
    python -m benchmarks.held_out_votes ANNOTATIONS.csv TAXONOMY.yaml --growth 10 50
    python -m benchmarks.held_out_votes ANNOTATIONS.csv TAXONOMY.yaml --predictions output*.csv

The settings of ``pooled`` were chosen by votes alone. Each volunteer of a clip is held out in turn, and the
posterior from the others ranks the votes of the held-out one: micro average precision of fine and of coarse
labels. With predictions, the labels by votes, by predictions and by both are compared with the ground
truth of the clips that have all three.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold

from ust.annotations.annotations import GROUND_TRUTH, read_annotations
from ust.annotations.rules.pooled import Pooled, estimate_pooled, fit_annotator_model, logit, sigmoid
from ust.annotations.rules.registry import read_label_quality
from ust.annotations.rules.relabel import LIMIT, Relabel, estimate_relabel
from ust.annotations.rules.votes import collect_votes
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
from ust.evaluation.label_quality import evaluate_rules
from ust.evaluation.predictions import read_predictions
from ust.util.seeding import random_stream

# One at a time beside what params.yaml has.
OTHERS = (
    {},
    {"anchor": 0.0}, {"anchor": 0.5}, {"anchor": 2.0},
    {"coupling": 0.0}, {"coupling": 0.4}, {"coupling": 1.0},
    {"correlation": 0.0}, {"correlation": 0.9},
    {"annotator_deviation": [0.5, 0.5]}, {"annotator_deviation": [2.0, 2.0]},
    {"label_deviation": [0.25, 0.25]}, {"label_deviation": [1.0, 1.0]}, {"label_deviation": [2.0, 2.0]},
    {"false_alarm": 0.007}, {"false_alarm": 0.047}, {"sensitivity": 0.38}, {"sensitivity": 0.62},
)  # fmt: skip
WEIGHTS = (0, 1, 2, 4, 6, 8, 10, 12, 16)  # of the fraction beside predicted logits


def held_out(annotations: pd.DataFrame, taxonomy: Taxonomy, settings: Pooled, *, seed: int) -> list[float]:
    """Micro average precision of the held-out votes, fine and coarse."""
    people = annotations[annotations["annotator_id"] > GROUND_TRUTH]
    people = people.iloc[random_stream(seed, "held out").permutation(len(people))]
    turn = people.groupby("audio_filename").cumcount().to_numpy()
    labels, coarse = list(taxonomy.labels), len(taxonomy.coarse)
    found = []
    for number in range(turn.max() + 1):
        rest, held = people[turn != number], people[turn == number]
        votes = collect_votes(rest, taxonomy)
        own, _, _ = fit_annotator_model(votes, settings)
        held = held[held["audio_filename"].isin(votes.clips)]
        rows = pd.Index(votes.clips).get_indexer(held["audio_filename"])
        said = (held[labels] == 1).to_numpy()
        found.append(
            [
                average_precision_score(said[:, part].ravel(), own[rows][:, part].ravel())
                for part in (slice(coarse, None), slice(None, coarse))
            ]
        )
    return np.mean(found, axis=0).tolist()


def growth(annotations: pd.DataFrame, taxonomy: Taxonomy, settings: Pooled, times: list[int]) -> None:
    """Print the seconds for so many copies of the volunteers and their clips."""
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
    annotations: pd.DataFrame, taxonomy: Taxonomy, settings: Pooled, paths: list[Path], *, seed: int
) -> None:
    """Print average precision with 95 % intervals over clips: of votes, of predictions, of both."""
    truth = annotations[annotations["annotator_id"] == GROUND_TRUTH].set_index("audio_filename")
    votes = collect_votes(annotations, taxonomy)
    common = [set(pd.read_csv(path, usecols=["audio_filename"])["audio_filename"]) for path in paths]
    clips = sorted(set(truth.index) & set(votes.clips) & set.intersection(*common))
    tables = [read_predictions(path, clips, taxonomy, others=set.union(*common))[0] for path in paths]
    logits = [logit(table.to_numpy(), LIMIT) for table in tables]
    rows = pd.Index(votes.clips).get_indexer(clips)
    votes = replace(votes, split=np.where(np.isin(votes.clips, clips), "train", "other"))
    relabel = Relabel(**dict(settings), listener="predictions.csv")

    def listen(values: np.ndarray) -> np.ndarray:
        predictions = pd.DataFrame(sigmoid(values), clips, list(taxonomy.labels))
        return estimate_relabel(votes, relabel, predictions=predictions)[rows]

    y, fraction = (truth.loc[clips, list(taxonomy.labels)] == 1).to_numpy(), votes.fraction()[rows]
    mean = np.mean(logits, axis=0)
    estimates = {
        "fraction": fraction,
        "pooled": estimate_pooled(votes, settings)[rows],
        **{path.stem: table.to_numpy() for path, table in zip(paths, tables, strict=True)},
        "mean logit": mean,
        "mean logit + w fraction": _add_fraction(mean, fraction, y, votes.sensors[rows], taxonomy),
        **{f"relabel by {path.stem}": listen(z) for path, z in zip(paths, logits, strict=True)},
        "relabel by mean logit": listen(mean),
    }
    found = evaluate_rules(y, estimates, taxonomy, bootstrap=1000, seed=seed)
    print(f"{len(clips)} clips")  # noqa: T201
    for name, levels in found.items():
        cells = [
            f"{level} {scores['ap']:.3f} [{scores['ci95'][0]:.3f}, {scores['ci95'][1]:.3f}]"
            for level, scores in levels.items()
        ]
        print(f"{name:24} {'  '.join(cells)}")  # noqa: T201


def _add_fraction(
    logits: np.ndarray, fraction: np.ndarray, truth: np.ndarray, sensors: np.ndarray, taxonomy: Taxonomy
) -> np.ndarray:
    """Add the fraction of votes with a weight that is chosen, by coarse AP, on the clips of other sensors."""
    coarse, result = len(taxonomy.coarse), np.zeros_like(logits)
    for rest, held in GroupKFold(5).split(logits, groups=sensors):
        scores = [
            average_precision_score(
                truth[rest, :coarse].ravel(), (logits + weight * fraction)[rest, :coarse].ravel()
            )
            for weight in WEIGHTS
        ]
        result[held] = (logits + WEIGHTS[int(np.argmax(scores))] * fraction)[held]
    return result


def main() -> None:
    """Print a line for each setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out_votes", description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("taxonomy", type=Path)
    parser.add_argument(
        "--growth", type=int, nargs="+", help="how many times as many rows to measure instead"
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
    for other in OTHERS:
        fine, coarse = held_out(annotations, taxonomy, settings.model_copy(update=other), seed=section.seed)
        name = ", ".join(f"{key} {value}" for key, value in other.items()) or "as in params.yaml"
        print(f"{name:36} fine {fine:.4f}  coarse {coarse:.4f}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
