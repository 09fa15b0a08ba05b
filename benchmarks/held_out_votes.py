"""How the rule ``pooled`` was set: by how well it ranks votes that it has not seen, and how its time grows.

    python -m benchmarks.held_out_votes ANNOTATIONS.csv TAXONOMY.yaml
    python -m benchmarks.held_out_votes ANNOTATIONS.csv TAXONOMY.yaml --growth 10 50

No ground truth is looked at. Of each clip one volunteer is held out, then another, until each has been;
the posterior from the others is to rank what the one held out said: micro average precision of fine and of
coarse labels.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from ust.annotations.annotations import GROUND_TRUTH, read_annotations
from ust.annotations.rules.config import read_label_quality
from ust.annotations.rules.pooled import Pooled, estimate_pooled, fit_annotator_model
from ust.annotations.rules.votes import collect_votes
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
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


def main() -> None:
    """Print a line for each setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out_votes", description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("taxonomy", type=Path)
    parser.add_argument(
        "--growth", type=int, nargs="+", help="how many times as many rows to measure instead"
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    section, rules = read_label_quality(args.params)
    _, settings = rules[section.annotators]
    taxonomy = read_taxonomy(args.taxonomy)
    annotations = read_annotations(args.annotations, taxonomy)
    if args.growth:
        growth(annotations, taxonomy, settings, args.growth)
        return
    for other in OTHERS:
        fine, coarse = held_out(annotations, taxonomy, settings.model_copy(update=other), seed=section.seed)
        name = ", ".join(f"{key} {value}" for key, value in other.items()) or "as in params.yaml"
        print(f"{name:36} fine {fine:.4f}  coarse {coarse:.4f}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
