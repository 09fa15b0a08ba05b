"""Interrupted trainings of every trainer resume to the same bytes."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import BASELINE, CODE, CPU, FLAT, HIERARCHY, EpochRecorder, Stored, changed, fit

from ust.features.context import Place, context_vector
from ust.models.cnn9 import CNN9
from ust.models.context import ContextConfig
from ust.models.head import Head
from ust.models.mobilenet import TaggingMobileNet
from ust.training import train_finetune as finetune
from ust.training import train_head as heads
from ust.training.config import ContextRow, PretrainedRow, SystemConfig
from ust.training.context import TrainingContext, training_data
from ust.training.train_augmented import AugmentedRow, AugmentedSettings
from ust.training.trainer import Trainer

HEAD = SystemConfig(
    ContextRow(trainer="train_head", architecture="head", features=["mn"], labels="any", outputs="all"),
    Head.Config(hidden_layers=1, hidden_size=8, dropout=0.5),
    heads.HeadSettings(batch_size=5, max_epochs=3, weight_decay=[0.1, 1.0], folds=2, mixup=0.5),
)
FINETUNE = SystemConfig(
    PretrainedRow(
        trainer="train_finetune", network="efficientat", architecture="mobilenet", features=["mn_logmel"],
        labels="any", outputs="coarse",
    ),
    TaggingMobileNet.Config(hidden_size=8, dropout=0.2),
    finetune.FinetuneSettings(
        head_epochs=2, batch_size=6, max_epochs=2, mask_bands=16, mask_frames=8, average=0.9, balance=0.5,
        folds=2, stop_patience=1,
    ),
)  # fmt: skip
AUGMENTED = SystemConfig(
    AugmentedRow(
        trainer="train_augmented", architecture="cnn9", features=["small_logmel"], labels="any",
        outputs="coarse",
    ),
    CNN9.Config(),
    AugmentedSettings(lr=0.01, batch_size=6, max_epochs=3, cache_gib=0.0, mixup=0.2, erase=0.5),
)  # fmt: skip
CONTEXT = {"context": ContextConfig(hidden_size=4)}
STAGNATION = {"max_epochs": 3, "patience": 0, "min_lr": 1e-3}
SYSTEMS = {
    "train": changed(FLAT, STAGNATION),
    "train_augmented": AUGMENTED,
    "train_hierarchical": changed(HIERARCHY, {"root": "own", "max_epochs": 2, "optimizer": "rmsprop"}),
    "train_hierarchical_code": changed(CODE, {"root": "own", "max_epochs": 2}),
    "train_baseline": changed(BASELINE, {"max_epochs": 3, "standardize": True}),
    "train_head": HEAD,
    "train_finetune": changed(FINETUNE, {"folds": 0, "stop_patience": 0}),
    "train_head with context": changed(HEAD, CONTEXT),
    "train_finetune with context": changed(FINETUNE, CONTEXT | {"folds": 0, "stop_patience": 0}),
    "train_finetune with folds": changed(FINETUNE, {"average": 0.0}),
    "train_finetune with distillation": changed(
        FINETUNE, {"distillation": 1.0, "folds": 0, "stop_patience": 0}
    ),
}


class Killed(Exception):
    """Raised instead of ending the process."""


@pytest.fixture
def examples(taxonomy, stored):
    """A function that returns twelve train and six validate rows of four sensors for a system."""
    rng = np.random.default_rng(0)
    keys = stored["vggish"]
    columns = (keys.clip, keys.variant, keys.split)
    features = stored | {
        "mn": Stored(rng.standard_normal((len(keys.clip), 12)).astype(np.float32), *columns),
        "small_logmel": Stored(rng.normal(-40, 9, (len(keys.clip), 64, 32)).astype(np.float32), *columns),
        "mn_logmel": Stored(rng.normal(0, 1, (len(keys.clip), 128, 32)).astype(np.float32), *columns),
    }
    time = datetime(2026, 7, 1)
    vectors = [
        context_vector(time + timedelta(hours=5 * row), Place(40.0 + row, -73.0, 1 + row % 5))
        for row in range(len(keys.clip))
    ]
    context = Stored(np.stack(vectors), *columns)
    clips = sorted(set(keys.clip))
    table = pd.DataFrame(rng.integers(0, 2, (len(clips), 37)), clips, list(taxonomy.labels))
    table.insert(0, "split", ["train" if clip[0] == "t" else "validate" for clip in clips])
    sensors = {clip: str(index % 4) for index, clip in enumerate(clips)}

    def data(system):
        inputs = {name: features[feature] for name, feature in system.inputs.items()}
        inputs |= {} if system.context is None else {"context": context}
        return training_data(system, table.rename_axis("audio_filename"), inputs, taxonomy, sensors)

    return data


@pytest.mark.parametrize("name", SYSTEMS)
def test_training_killed_in_each_epoch_gives_the_same_bytes(
    name, examples, taxonomy, tmp_path, pretrained, monkeypatch
):
    """Each run ends in its second epoch, so there are as many runs as epochs."""
    monkeypatch.setattr(heads, "CHECKPOINT_EVERY", 1)
    system = SYSTEMS[name]
    if system.row.architecture == "cnn_vggish":
        from tiny import Tiny

        def build_network(self, system, outputs, name, examples):
            torch.manual_seed(len(name))
            return Tiny(outputs, dropout=0.3)

        monkeypatch.setattr(TrainingContext, "build_network", build_network)

    def context(folder):
        metadata = {"inputs": system.inputs, "features": {}}
        return TrainingContext(
            "a", taxonomy, CPU, folder / "out", folder, metadata, None, EpochRecorder(), pretrained=pretrained
        )

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    data = examples(system)
    whole.mkdir()
    work = context(whole)
    fit(system, data, replace(work, states=None))
    epochs = work.callbacks.epochs

    train_epoch, done = Trainer.train_epoch, []

    def killed_in_the_second(self, number):
        if done and self.checkpoint_every == 1:
            raise Killed
        done.append(number)
        return train_epoch(self, number)

    monkeypatch.setattr(Trainer, "train_epoch", killed_in_the_second)
    parts.mkdir()
    resumed_epochs, runs, resumed = [], 0, []
    while True:
        done.clear()
        runs += 1
        assert runs < 100
        work = context(parts)
        try:
            fit(system, data, work)
        except Killed:
            continue
        finally:
            resumed_epochs += work.callbacks.epochs
            resumed += work.callbacks.resumed
        break
    assert resumed_epochs == epochs
    assert runs > 2
    # If the folds choose one epoch, fine-tuning on all clips has no earlier epoch to resume from.
    assert resumed or name == "train_finetune with folds"
    files = [path.relative_to(whole) for path in sorted((whole / "out").rglob("*")) if path.is_file()]
    assert any(path.name == "weights.safetensors" for path in files)
    for path in files:
        assert (parts / path).read_bytes() == (whole / path).read_bytes(), path
