"""Training on log-mels that are augmented in every batch."""

import numpy as np
import pytest
import torch
from tiny import COMMON, CPU, STAGNATION, EpochRecorder, changed, fit, sixteen_clips, trainer

from ust.models.cnn9 import CNN9
from ust.training.config import SystemConfig
from ust.training.context import TrainingContext
from ust.training.registry import build_system_config
from ust.training.train_augmented import AugmentedRow, AugmentedSettings, augment_spectrograms

ROW = {"trainer": "train_augmented", "architecture": "cnn9", "features": ["logmel"], "labels": "majority",
       "outputs": "coarse"}  # fmt: skip
AMOUNTS = {"scale": 0.1, "shift": 0.1, "erase": 0.5, "mixup": 0.2}
SECTION = COMMON | STAGNATION | AMOUNTS | {"batch_size": 4, "max_epochs": 3}
SYSTEM = SystemConfig(AugmentedRow(**ROW), CNN9.Config(), AugmentedSettings(**SECTION))


@pytest.fixture
def data(taxonomy):
    """Examples whose first coarse label raises the low bands."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-80, -50, (16, 64, 32))
    x[1::2, :20] += 40
    return sixteen_clips(SYSTEM, "logmel", x, taxonomy)


def batch(data, indices, **changes):
    """Return the augmented log-mels and targets of a batch."""
    system = changed(SYSTEM, changes)
    loop = trainer(torch.nn.Linear(1, 1), data.train, system, augment_stream="batch")
    inputs, targets = data.train.batch(indices, CPU)
    rng = loop._augment_stream(indices)
    inputs, targets = augment_spectrograms(inputs, targets, rng, settings=system.training)
    return inputs["logmel"], targets


@pytest.mark.whole
def test_augmented_batch_depends_on_its_examples_and_the_seed(data):
    chosen = np.array([3, 1, 7, 5])
    (first, targets), (_, others) = (batch(data, each) for each in (chosen, chosen[::-1].copy()))
    again, same = batch(data, chosen)
    assert torch.equal(first, again)
    assert torch.equal(targets, same)
    assert not torch.allclose(targets, others.flip(0))
    plain, labels = data.train.batch(chosen, CPU)
    assert not torch.allclose(first, plain["logmel"].float())
    assert not torch.equal(targets, labels)
    seeds = [batch(data, chosen, seed=seed)[0] for seed in (1, 2)]
    assert not torch.allclose(*seeds)


def test_augmentation_with_zero_amounts_changes_nothing(data):
    nothing = dict.fromkeys(AMOUNTS, 0.0)
    plain, labels = data.train.batch(np.arange(4), CPU)
    found, targets = batch(data, np.arange(4), **nothing)
    assert torch.equal(found, plain["logmel"].float())
    assert torch.equal(targets, labels)
    for name in AMOUNTS:
        varied, _ = batch(data, np.arange(4), **nothing | {name: 0.9})
        assert not torch.allclose(varied, plain["logmel"].float()), name


def test_validate_clips_are_not_augmented(data, taxonomy, tmp_path, monkeypatch):
    """All train clips are."""
    seen = {"train": [], "validate": []}
    network = TrainingContext.build_network

    def watched(self, *args):
        made = network(self, *args)
        made.register_forward_pre_hook(
            lambda module, _, given: seen["train" if module.training else "validate"].append(given["logmel"]),
            with_kwargs=True,
        )
        return made

    monkeypatch.setattr(TrainingContext, "build_network", watched)
    metadata = {"inputs": {"logmel": "logmel"}, "features": {}}
    system = changed(SYSTEM, {"max_epochs": 1})
    fit(
        system,
        data,
        TrainingContext("a", taxonomy, CPU, tmp_path / "out", tmp_path, metadata, None, EpochRecorder()),
    )
    stored = {x.tobytes() for x in data.train.features["logmel"].values.astype(np.float32)}
    for split, wanted in (("train", False), ("validate", True)):
        examples = torch.cat([batch.float() for batch in seen[split]]).numpy()
        assert len(examples) == len(getattr(data, split))
        assert all((x.tobytes() in stored) == wanted for x in examples)


def test_augmented_training_needs_exactly_one_feature():
    content = {"train_augmented": SECTION, "model": {}}
    assert build_system_config("systems", "a", ROW, content)[1] == []
    row = ROW | {"architecture": "cnn_vggish", "features": ["logmel", "vggish"]}
    system, problems = build_system_config("systems", "a", row, content)
    assert system is None
    wanted = "should be one feature, a log-mel, which this trainer augments"
    assert problems == [f"systems.a.features: is ['logmel', 'vggish'], {wanted}"]
