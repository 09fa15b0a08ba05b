"""Systems with time and place, trained by each trainer of networks: what they save and predict."""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import CPU, EpochRecorder, Stored, fit

from ust.features.context import SIZE, Place, context_vector
from ust.models.checkpoints import load_system
from ust.models.context import ContextConfig
from ust.models.examples import predict
from ust.models.head import Head
from ust.training.augmentation import mixup_batch
from ust.training.config import ContextRow, HierarchyRow, SystemConfig
from ust.training.context import TrainingContext, describe_model, training_data
from ust.training.train import TrainSettings
from ust.training.train_head import HeadSettings

ROW = {"architecture": "head", "features": ["mn"], "labels": "any", "context": ContextConfig(hidden_size=4)}
SETTINGS = TrainSettings(lr=0.01, batch_size=8, max_epochs=3)
TREE = {"root": "own", "flat": "a/coarse", "negatives": True}
SYSTEMS = {
    "train": SystemConfig(ContextRow(trainer="train", outputs="all", **ROW), Head.Config(), SETTINGS),
    "train_hierarchical": SystemConfig(
        HierarchyRow(trainer="train_hierarchical", **TREE, **ROW), Head.Config(), SETTINGS
    ),
    "train_head": SystemConfig(
        ContextRow(trainer="train_head", outputs="all", **ROW),
        Head.Config(),
        HeadSettings(max_epochs=3, weight_decay=[0.1], folds=2, mixup=0.5),
    ),
}


@pytest.fixture
def data(taxonomy):
    """A function that gives a system 24 train and 8 validate clips of four sensors."""
    rng = np.random.default_rng(0)
    names = [f"{i % 4:02d}_{i:06d}.wav" for i in range(32)]
    splits = ["train"] * 24 + ["validate"] * 8
    table = pd.DataFrame(rng.integers(0, 2, (32, 37)), pd.Index(names), list(taxonomy.labels))
    table.insert(0, "split", splits)
    order = np.argsort(names)
    columns = [np.array(column, object)[order] for column in (names, ["original"] * 32, splits)]
    start = datetime(2026, 7, 1)
    vectors = [
        context_vector(start + timedelta(hours=5 * i), Place(40.7 + i % 4 / 10, -73.9, 1)) for i in range(32)
    ]
    features = {
        "embedding": Stored(rng.standard_normal((32, 6)).astype(np.float32), *columns),
        "context": Stored(np.stack(vectors)[order], *columns),
    }
    sensors = {name: name[:2] for name in names}
    return lambda system: training_data(
        system, table.rename_axis("audio_filename"), features, taxonomy, sensors
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_trained_system_is_loaded_with_its_context(name, data, taxonomy, tmp_path):
    system = SYSTEMS[name]
    examples = data(system)
    metadata = describe_model(system, taxonomy, {})
    fit(
        system, examples, TrainingContext("a", taxonomy, CPU, tmp_path, None, metadata, None, EpochRecorder())
    )
    folder = tmp_path / "coarse" if name == "train" else tmp_path
    loaded = load_system(folder)
    assert loaded.metadata["inputs"] == {"embedding": "mn", "context": "context"}
    assert loaded.metadata["spatiotemporal_context"] == "week, day, hour, borough, latitude, longitude"
    found = predict(loaded, examples.validate, batch_size=3, device=CPU)
    assert found.shape == (8, 37)
    ((inputs, _),) = examples.validate.batches(8, device=CPU)
    with torch.inference_mode():
        np.testing.assert_allclose(found, loaded(**inputs).numpy(), atol=1e-6)
        without = loaded(**inputs | {"context": torch.zeros(8, SIZE)}).numpy()
    assert abs(found - without).max() > 1e-4
    network = next(module for module in loaded.modules() if hasattr(module, "zero_last_layer"))
    train = examples.train.features["context"][examples.train.rows]
    np.testing.assert_allclose(network.mean[12:14], train[:, 12:14].mean(axis=0), rtol=1e-5)


def test_mixup_mixes_each_context_as_its_sound():
    sound = torch.arange(6.0)[:, None].repeat(1, 3)
    inputs, targets = {"embedding": sound, "context": 10 * sound}, sound[:, :1] / 5
    mixed, labels = mixup_batch(inputs, targets, 0.4, np.random.default_rng(0))
    found, same = mixup_batch({"embedding": sound}, targets, 0.4, np.random.default_rng(0))
    alone = found["embedding"]
    assert not torch.equal(alone, sound)
    torch.testing.assert_close(mixed["embedding"], alone)
    torch.testing.assert_close(mixed["context"], 10 * alone)
    torch.testing.assert_close(labels, same)
    torch.testing.assert_close(labels, alone[:, :1] / 5)
