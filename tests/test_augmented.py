"""Training on log-mels that are augmented in every batch: each way by its definition, and it repeats."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import COMMON, CPU, STAGNATION, Heard, fit, sixteen

from ust.training.config import system_model
from ust.training.systems import complete_system
from ust.training.train_augmented import Augmented, AugmentedConfig, AugmentedExamples
from ust.training.work import TrainingContext

ROW = {"recipe": "train_augmented", "architecture": "cnn9", "features": ["logmel"], "labels": "majority",
       "outputs": "coarse"}  # fmt: skip
AMOUNTS = {"scale": 0.1, "shift": 0.1, "erase": 0.5, "mixup": 0.2}
SECTION = COMMON | STAGNATION | AMOUNTS | {"batch_size": 4, "max_epochs": 3}
SYSTEM = system_model(AugmentedConfig, "cnn9", Augmented)(**ROW, **SECTION)


@pytest.fixture
def data(taxonomy):
    """The first coarse label is loud in the low bands."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-80, -50, (16, 64, 32))
    x[1::2, :20] += 40
    return sixteen(SYSTEM, "logmel", x, taxonomy)


def varied(data, **changes):
    system = SYSTEM.model_copy(update=changes)
    return AugmentedExamples(data.train.features, data.train.rows, data.train.targets, recipe=system)


def test_a_batch_is_the_same_whatever_was_read_before_and_others_are_not(data):
    chosen = np.array([3, 1, 7, 5])
    examples = varied(data)
    (first, targets), (_, others) = (examples.batch(each, CPU) for each in (chosen, chosen[::-1].copy()))
    again, same = varied(data).batch(chosen, CPU)
    assert torch.equal(first["logmel"], again["logmel"])
    assert torch.equal(targets, same)
    assert not torch.allclose(targets, others.flip(0))
    plain, labels = data.train.batch(chosen, CPU)
    assert not torch.allclose(first["logmel"], plain["logmel"].float())
    assert not torch.equal(targets, labels)
    seeds = [varied(data, seed=seed).batch(chosen, CPU)[0]["logmel"] for seed in (1, 2)]
    assert not torch.allclose(*seeds)


def test_each_amount_of_nothing_leaves_the_clips_as_they_are(data):
    nothing = dict.fromkeys(AMOUNTS, 0.0)
    plain, labels = data.train.batch(np.arange(4), CPU)
    found, targets = varied(data, **nothing).batch(np.arange(4), CPU)
    assert torch.equal(found["logmel"], plain["logmel"].float())
    assert torch.equal(targets, labels)
    for name in AMOUNTS:
        changed, _ = varied(data, **nothing | {name: 0.9}).batch(np.arange(4), CPU)
        assert not torch.allclose(changed["logmel"], plain["logmel"].float()), name


class Killed(Exception):
    """Stands for the end of the process."""


class Ends(Heard):
    """A listener that ends the process in an epoch, before its state is kept."""

    def on_epoch(self, node, epoch):
        super().on_epoch(node, epoch)
        if epoch.number == 2:
            raise Killed


@pytest.mark.slow
def test_what_was_cut_short_goes_on_as_it_would_have(data, taxonomy, tmp_path):
    def run(name, listener):
        metadata = {"inputs": {"logmel": "logmel"}, "features": {}}
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        fit(SYSTEM, data, TrainingContext("a", taxonomy, CPU, place / "out", place, metadata, None, listener))
        return load_file(place / "out" / "coarse" / "weights.safetensors"), listener.epochs

    wanted, epochs = run("whole", Heard())
    with pytest.raises(Killed):
        run("cut", Ends())
    found, rest = run("cut", Heard())
    assert [epoch for _, epoch in epochs[1:]] == [epoch for _, epoch in rest]
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert epochs[-1][1].loss < epochs[0][1].loss


def test_validate_clips_are_heard_as_they_are(data, taxonomy, tmp_path, monkeypatch):
    """And train clips never."""
    seen = {"train": [], "validate": []}
    network = TrainingContext.network

    def watched(self, *args):
        made = network(self, *args)
        made.register_forward_pre_hook(
            lambda module, _, given: seen["train" if module.training else "validate"].append(given["logmel"]),
            with_kwargs=True,
        )
        return made

    monkeypatch.setattr(TrainingContext, "network", watched)
    metadata = {"inputs": {"logmel": "logmel"}, "features": {}}
    system = SYSTEM.model_copy(update={"max_epochs": 1})
    fit(
        system, data, TrainingContext("a", taxonomy, CPU, tmp_path / "out", tmp_path, metadata, None, Heard())
    )
    stored = {x.tobytes() for x in data.train.features["logmel"].values.astype(np.float32)}
    for split, wanted in (("train", False), ("validate", True)):
        examples = torch.cat([batch.float() for batch in seen[split]]).numpy()
        assert len(examples) == len(getattr(data, split))
        assert all((x.tobytes() in stored) == wanted for x in examples)


def test_it_takes_one_feature():
    defaults = SECTION | {"fusion": "concat", "vggish_scale": None, "conv_dropout": 0.5, "head_dropout": 0.2}
    assert complete_system("systems", "a", ROW, defaults)[1] == []
    row = ROW | {"architecture": "cnn_vggish", "features": ["logmel", "vggish"]}
    system, problems = complete_system("systems", "a", row, defaults)
    assert system is None
    wanted = "should be one feature, a log-mel, which this recipe augments"
    assert problems == [f"systems.a.features: is ['logmel', 'vggish'], {wanted}"]
