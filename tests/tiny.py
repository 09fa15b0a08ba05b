"""Tiny networks and data sets for tests of training."""

from dataclasses import asdict, dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from ust.features.context import SIZE
from ust.models.checkpoints import SavedNetwork, build_initialized, save_network
from ust.models.cnn import CNN
from ust.models.cnn_vggish import CNNVGGish
from ust.models.context import ContextConfig
from ust.models.frames import FrameClassifier
from ust.training.config import FlatRow, HierarchyRow, SystemConfig
from ust.training.context import training_data
from ust.training.registry import TRAINERS
from ust.training.schedules import PlateauSchedule
from ust.training.train import TrainSettings, network_trainer
from ust.training.train_baseline import BaselineRow, BaselineSettings
from ust.training.train_hierarchical_code import CodeSettings
from ust.training.trainer import TrainingState, monitor_loss
from ust.util.progress import silent

CPU = torch.device("cpu")
COMMON = {"lr": 0.01, "cache_gib": 0.0}
STAGNATION = {"max_epochs": 8, "patience": 1, "min_lr": 1e-4, "schedule": "stagnation", "warm_up": 0.2}
ROW = {"architecture": "cnn_vggish", "features": ["logmel", "vggish"], "labels": "majority"}
CONFIG = CNNVGGish.Config(conv_dropout=0.5)
ALONE = CNN.Config(conv_dropout=0.5)
FLAT = SystemConfig(
    FlatRow(trainer="train", outputs="all", **ROW), CONFIG, TrainSettings(**COMMON, **STAGNATION)
)
TREE = {"root": "flat", "flat": "a/coarse", "negatives": False}
HIERARCHY = SystemConfig(HierarchyRow(trainer="train_hierarchical", **ROW, **TREE), CONFIG, FLAT.training)
CODE = SystemConfig(
    HierarchyRow(trainer="train_hierarchical_code", **ROW, **TREE),
    CONFIG,
    CodeSettings(
        **COMMON, batch_size=8, pos_weight_power=0.1, max_epochs=6, reduce_patience=2, stop_patience=3
    ),
)
BASELINE = SystemConfig(
    BaselineRow(
        trainer="train_baseline", architecture="frames", features=["vggish"], labels="any", outputs="fine"
    ),
    FrameClassifier.Config(hidden_size=16),
    BaselineSettings(lr=0.01, batch_size=16, max_epochs=6, stop_patience=2, l2=0.0, standardize=False),
)


def changed(system, changes):
    """Return a system with some settings of its row, architecture or trainer changed."""
    parts = {name: getattr(system, name) for name in ("row", "model", "training")}
    fields = {name: type(part).model_fields for name, part in parts.items()}
    assert all(any(key in known for known in fields.values()) for key in changes)
    for name, part in parts.items():
        own = {key: value for key, value in changes.items() if key in fields[name]}
        parts[name] = part.model_copy(update=own)
    return SystemConfig(**parts)


class Tiny(nn.Module):
    """A linear layer on the first frame, with dropout, that records its training inputs."""

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
    """A feature file in memory."""

    values: np.ndarray
    clip: np.ndarray
    variant: np.ndarray
    split: np.ndarray

    def __getitem__(self, rows):
        return self.values[rows]


def sixteen_clips(system, name, values, taxonomy):
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


class EpochRecorder:
    """Callbacks that record each epoch and the network's weights after it."""

    def __init__(self):
        self.epochs, self.weights, self.network, self.resumed = [], [], None, []

    def on_epoch(self, node, epoch):
        self.epochs.append((node, epoch))
        if self.network is not None:
            self.weights.append({k: v.clone() for k, v in self.network.state_dict().items()})

    def on_resume(self, node, epochs):
        self.resumed.append((node, [epoch.number for epoch in epochs]))


def save_with_context(folder, taxonomy, logmel, shape):
    """Save an untrained system of log-mels, time and place."""
    inputs = {"logmel": "logmel", "context": "context"}
    features = {"logmel": {"kind": "logmel", **logmel}, "context": {}}
    metadata = {"taxonomy": asdict(taxonomy), "inputs": inputs, "features": features}
    shapes = {"logmel": shape, "context": (SIZE,)}
    network = build_initialized("cnn", ALONE, 37, shapes, 0, "a", ContextConfig())
    torch.manual_seed(0)
    nn.init.normal_(network.context.layers[-1].weight)
    saved = SavedNetwork(network, "cnn", ALONE, list(taxonomy.labels), metadata, shapes, ContextConfig())
    save_network(folder, saved)


def script(*scores):
    """A score that goes by a script, epoch by epoch."""
    left = iter(scores)
    return lambda outputs: next(left)


def trainer(network, train, system, *, name="a", state=None, **options):
    """Return a trainer for a network of the report."""
    given = {"schedule": system.training.build_schedule()} if "schedule" not in options else {}
    return network_trainer(
        network, train, system.training, SimpleNamespace(device=CPU, progress=silent), name=name,
        state=state or TrainingState(), **given, **options,
    )  # fmt: skip


def train(network, data, system, *scores, **options):
    """Train with given validation scores, one for each epoch."""
    script = iter(scores)
    return trainer(network, data.train, system, monitor=lambda _: next(script), **options).fit()


def train_on_plateau(network, train, validate, system, **options):
    """Train with the plateau schedule of the authors' code."""
    settings = system.training
    schedule = PlateauSchedule(settings.lr, settings.reduce_patience, settings.reduce_factor)
    return trainer(
        network, train, system, schedule=schedule, monitor=monitor_loss(validate, 2 * settings.batch_size),
        mode="min", stop_patience=settings.stop_patience, **options,
    ).fit()  # fmt: skip


def fit(system, data, work):
    """Train a system with its trainer."""
    TRAINERS[system.row.trainer].fit(system, data, work)


def is_of_epoch(folder, weights):
    found = load_file(folder / "weights.safetensors")
    return all(torch.equal(found[name], value) for name, value in weights.items())
