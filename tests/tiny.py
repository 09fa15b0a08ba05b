"""Networks and data so small that every step of a training can be looked at."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from ust.models.cnn import CNN
from ust.models.cnn_vggish import CNNVGGish
from ust.training import plateau, stagnation
from ust.training.config import FlatConfig, HierarchyConfig, system_model
from ust.training.registry import RECIPES
from ust.training.train_baseline import Baseline, BaselineConfig
from ust.training.trainer import Task
from ust.training.work import training_data

CPU = torch.device("cpu")
NETWORK = {"fusion": "concat", "vggish_scale": None, "conv_dropout": 0.5, "head_dropout": 0.2}
COMMON = {
    "seed": 2019, "lr": 0.01, "batch_size": 8, "optimizer": "adam", "pos_weight_power": 0.1,
    "precision": "float32", "cache_gib": 0.0,
}  # fmt: skip
STAGNATION = {
    "max_epochs": 8, "patience": 1, "reduce_factor": 0.1, "min_lr": 1e-4, "factor_step": 0.1,
    "restart": "reached", "schedule": "stagnation", "warm_up": 0.2,
}  # fmt: skip
ROW = {"architecture": "cnn_vggish", "features": ["logmel", "vggish"], "labels": "majority"}
CONFIG = CNNVGGish.Config(**NETWORK)
ALONE = CNN.Config(conv_dropout=0.5, head_dropout=0.2)
FLAT = system_model(FlatConfig, "cnn_vggish", stagnation.Stagnation)(
    **ROW, **NETWORK, **COMMON, **STAGNATION, recipe="train", outputs="all"
)
TREE = {"root": "flat", "flat": "a/coarse", "negatives": False}
HIERARCHY = system_model(HierarchyConfig, "cnn_vggish", stagnation.Stagnation)(
    **ROW, **NETWORK, **COMMON, **STAGNATION, **TREE, recipe="train_hierarchical"
)
CODE = system_model(HierarchyConfig, "cnn_vggish", plateau.Plateau)(
    **ROW, **NETWORK, **COMMON, **TREE, recipe="train_hierarchical_code", max_epochs=6, reduce_patience=2,
    reduce_factor=0.1, stop_patience=3,
)  # fmt: skip
BASELINE = system_model(BaselineConfig, "frames", Baseline)(
    recipe="train_baseline", architecture="frames", features=["vggish"], labels="any", outputs="fine",
    seed=2019, lr=0.01, batch_size=16, max_epochs=6, stop_patience=2, l2=0.0, standardize=False,
    hidden_layers=0, hidden_size=16,
)  # fmt: skip


class Tiny(nn.Module):
    """A linear layer over the first frame, with dropout where asked for, that remembers what it was shown."""

    def __init__(self, outputs, dropout=0.0):
        super().__init__()
        self.layer = nn.Linear(128, outputs)
        self.dropout = nn.Dropout(dropout)
        self.inputs = ("logmel", "vggish")
        self.seen = []

    def forward(self, logmel, vggish):
        if self.training:
            self.seen.append(vggish[:, 0, 0].tolist())
        return self.layer(self.dropout(vggish[:, 0].float() / 255))


@dataclass
class Stored:
    """A feature file in memory; the first value of a row is its number."""

    values: np.ndarray
    clip: np.ndarray
    variant: np.ndarray
    split: np.ndarray

    def __getitem__(self, rows):
        return self.values[rows]


def sixteen(system, name, values, taxonomy):
    """Twelve train and four validate clips of four sensors; every second one has the first coarse label.

    Its feature is `values` [shape=(16, …)], in that order.
    """
    names = [f"{i % 4:02d}_{i:06d}.wav" for i in range(16)]
    splits = ["train"] * 12 + ["validate"] * 4
    table = pd.DataFrame(0, pd.Index(names, name="audio_filename"), list(taxonomy.labels))
    table[taxonomy.coarse[0]] = [i % 2 for i in range(16)]
    table.insert(0, "split", splits)
    order = np.argsort(names)
    columns = (np.array(column, object)[order] for column in (names, ["original"] * 16, splits))
    stored = Stored(values[order].astype(np.float16), *columns)
    return training_data(system, table, {name: stored}, taxonomy, {clip: clip[:2] for clip in names})


class Heard:
    """A listener that keeps each epoch, and the weights that the system's network had then."""

    def __init__(self):
        self.epochs, self.weights, self.network, self.resumed = [], [], None, []

    def on_epoch(self, node, epoch):
        self.epochs.append((node, epoch))
        if self.network is not None:
            self.weights.append({k: v.clone() for k, v in self.network.state_dict().items()})

    def on_resume(self, node, epochs):
        self.resumed.append((node, [epoch.number for epoch in epochs]))


def script(*scores):
    """A score that goes by a script, epoch by epoch."""
    left = iter(scores)
    return lambda outputs: next(left)


def task(network, train, validate=None, *, name="a", on_epoch=lambda _: None, state=None):
    """What a trainer is given."""
    state = {} if state is None else {"state": state}
    return Task(network, train, train if validate is None else validate, CPU, name, on_epoch, **state)


def train(network, data, recipe, *scores, **options):
    return stagnation.train_on_stagnation(
        task(network, data.train, data.validate, **options), recipe, script(*scores)
    )


def fit(system, data, work):
    """Train a system by its recipe."""
    RECIPES[system.recipe].fit(system, data, work)


def is_of_epoch(folder, weights):
    found = load_file(folder / "weights.safetensors")
    return all(torch.equal(found[name], value) for name, value in weights.items())
