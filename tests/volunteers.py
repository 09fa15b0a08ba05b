"""Annotations of simulated volunteers."""

import numpy as np
import pandas as pd
from conftest import ROOT
from ruamel.yaml import YAML

from ust.annotations.rules.pooled import PooledConfig

ROWS = YAML(typ="safe").load(ROOT / "params.yaml")["label_quality"]["rules"]
POOLED = PooledConfig(**{key: value for key, value in ROWS["pooled"].items() if key != "rule"})


def people(taxonomy, votes, split="train"):
    """Return annotations from (clip, annotator, {label: presence}); other labels are 0."""
    rows = []
    for clip, annotator, presence in votes:
        row = {"split": split, "sensor_id": clip[:2], "audio_filename": clip, "annotator_id": annotator}
        row |= dict.fromkeys(taxonomy.labels, 0)
        for label, value in presence.items():
            row[label] = value
            group = label.split("-")[0]
            if value == 1 and group in "12345678":
                row[next(name for name in taxonomy.coarse if name.startswith(f"{group}_"))] = 1
        rows.append(row)
    return pd.DataFrame(rows)


def crowd(taxonomy, *, clips=120, seed=0, coins=0):
    """Return votes of three careful volunteers per clip and of `coins` random ones, and the ground truth."""
    rng, tosses = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    fine = list(taxonomy.fine)
    votes, truth = [], []
    for index in sorted(range(clips), key=lambda index: (index % 6, index)):  # as their names are sorted
        there = {fine[i] for i in rng.choice(len(fine), rng.integers(0, 3), replace=False)}
        truth.append([label in there for label in fine])
        name = f"{index % 6:02d}_{index:06d}.wav"
        for _ in range(3):
            marked = {label: 1 for label in there if rng.random() < 0.7}
            votes.append((name, int(rng.integers(1, 30)), marked))
        for coin in range(coins):
            votes.append((name, 1000 + coin, {label: int(tosses.random() < 0.5) for label in fine}))
    return people(taxonomy, votes), np.array(truth)
