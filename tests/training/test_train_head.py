"""Heads on embeddings: standardisation, cross-validated weight decay, calibration and mixup."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold
from tiny import CPU, EpochRecorder, Stored, changed

from ust.models.attention import Attention
from ust.models.checkpoints import load_system, read_description
from ust.models.examples import predict
from ust.models.head import Head
from ust.models.layers import Standardize
from ust.training import train_head as heads
from ust.training.augmentation import mixup_batch
from ust.training.config import FlatRow, SystemConfig
from ust.training.context import TrainingContext, training_data
from ust.training.cross_validation import group_folds
from ust.training.losses import masked_cross_entropy
from ust.util.errors import UserError

ROW = {"trainer": "train_head", "labels": "any", "outputs": "all"}
SETTINGS = heads.HeadSettings(
    lr=0.01, batch_size=16, max_epochs=20, weight_decay=[0.01, 1.0], folds=3, cache_gib=0.0
)
HEAD = SystemConfig(
    FlatRow(architecture="head", features=["mn"], **ROW), Head.Config(hidden_size=8), SETTINGS
)
ATTENTION = SystemConfig(
    FlatRow(architecture="attention", features=["mn_frames"], **ROW), Attention.Config(dropout=0.0), SETTINGS
)


@pytest.fixture
def data(taxonomy):
    """Forty train clips of eight sensors and twenty validate clips, whose embeddings depend on the labels."""
    import pandas as pd

    rng = np.random.default_rng(0)
    names = [f"{i % 8:02d}_{i:06d}.wav" for i in range(60)]
    splits = ["train"] * 40 + ["validate"] * 20
    y = (rng.random((60, 37)) < 0.4).astype(int)
    table = pd.DataFrame(y, pd.Index(names, name="audio_filename"), list(taxonomy.labels))
    table.insert(0, "split", splits)
    embedding = (y @ rng.standard_normal((37, 48)) + 0.1 * rng.standard_normal((60, 48)) + 3).astype(
        np.float32
    )
    order = np.argsort(names)
    columns = (np.array(column, object)[order] for column in (names, ["original"] * 60, splits))
    clip, variant, split = columns
    stored = Stored(embedding[order], clip, variant, split)
    frames = np.repeat(embedding[order][:, None], 4, axis=1)
    frames[:, 1:] = 3
    sensors = {clip: clip[:2] for clip in names}
    made = training_data(HEAD, table, {"embedding": stored}, taxonomy, sensors)
    attended = Stored(frames, clip, variant, split)
    return made, training_data(ATTENTION, table, {"frames": attended}, taxonomy, sensors)


@pytest.fixture
def work(taxonomy, tmp_path):
    metadata = {"inputs": {}, "features": {}}
    return TrainingContext("a", taxonomy, CPU, tmp_path / "out", None, metadata, None, EpochRecorder())


@pytest.mark.parametrize("kind", [0, 1], ids=["head", "attention"])
def test_head_learns_and_survives_saving(data, work, kind):
    system = (HEAD, ATTENTION)[kind]
    heads.fit_head(system, data[kind], work)
    found = predict(
        load_system(work.out, taxonomy=work.taxonomy), data[kind].validate, batch_size=7, device=CPU
    )
    right = (found > 0.5) == (data[kind].validate.targets > 0.5)
    assert right.mean() > 0.68  # 0.6 is what a constant gets
    metadata = read_description(work.out)["metadata"]
    assert metadata["weight_decay"] in system.training.weight_decay
    assert [epoch.number for _, epoch in work.callbacks.epochs] == list(range(1, 21))
    first, last = (epoch.loss for _, epoch in (work.callbacks.epochs[0], work.callbacks.epochs[-1]))
    assert last < first


def test_validate_split_does_not_influence_training(data, work, tmp_path):
    """Other validate clips with other labels give the same weights."""
    made, _ = data
    system = changed(HEAD, {"max_epochs": 2})
    heads.fit_head(system, made, work)
    other = made.validate.subset(slice(5), 1 - made.validate.targets[:5])
    heads.fit_head(system, replace(made, validate=other), replace(work, out=tmp_path / "other"))
    first, second = (
        (folder / "weights.safetensors").read_bytes() for folder in (work.out, tmp_path / "other")
    )
    assert first == second


def test_loss_ignores_unknown_targets():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([[1.0, 0.0, 0.5]] * 6)
    targets[::2, 1] = torch.nan
    loss = masked_cross_entropy(logits, targets)
    loss.backward()
    p, known = logits.sigmoid(), ~targets.isnan()
    by_hand = -(targets * p.log() + (1 - targets) * (1 - p).log())
    torch.testing.assert_close(loss, by_hand[known].mean())
    assert (logits.grad[~known] == 0).all()
    assert (logits.grad[known] != 0).all()


def test_loss_is_zero_if_no_target_is_known():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = masked_cross_entropy(logits, torch.full((2, 3), torch.nan))
    loss.backward()
    assert loss == 0
    assert logits.grad.eq(0).all()


def test_head_trains_with_unknown_labels(data, work, tmp_path):
    """One label is known for half of the clips, another for none."""
    made, _ = data
    targets = made.train.targets.copy()
    targets[::2, 3] = targets[:, 5] = np.nan
    changed = replace(made, train=made.train.subset(slice(None), targets))
    heads.fit_head(HEAD, changed, work)
    metadata = read_description(work.out)["metadata"]
    assert np.isfinite(list(metadata["thresholds"].values())).all()
    assert np.isfinite([metadata["calibration"]["scale"], metadata["calibration"]["shift"]]).all()
    probabilities = predict(
        load_system(work.out, taxonomy=work.taxonomy), made.validate, batch_size=20, device=CPU
    )
    right = (probabilities > 0.5) == (made.validate.targets > 0.5)
    assert np.isfinite(probabilities).all()
    assert np.delete(right, [3, 5], axis=1).mean() > 0.68  # as with all labels known


def test_weight_decay_has_the_best_out_of_fold_score(data, work, monkeypatch):
    made, _ = data
    scores = iter([0.2, 0.7, 0.3])
    monkeypatch.setattr(heads, "flat_score", lambda *_: lambda outputs: {"coarse": next(scores, 0.0)})
    system = changed(HEAD, {"weight_decay": [0.0, 0.5, 2.0], "max_epochs": 1})
    heads.fit_head(system, made, work)
    assert read_description(work.out)["metadata"]["weight_decay"] == 0.5


def test_out_of_fold_networks_have_not_seen_the_sensor(data, work, monkeypatch):
    made, _ = data
    seen = []
    real = heads._train

    def train(examples, system, decay, work, name, **options):
        seen.append((name, {clip[:2] for clip in examples.clips}))
        return real(examples, system, decay, work, name, **options)

    monkeypatch.setattr(heads, "_train", train)
    heads.fit_head(changed(HEAD, {"max_epochs": 1}), made, work)
    everyone = {f"{i:02d}" for i in range(8)}
    assert [name for name, _ in seen] == [f"a fold {i}" for i in range(3)] * 2 + ["a"]
    assert seen[-1][1] == everyone
    held = [everyone - sensors for _, sensors in seen[:3]]
    assert set.union(*held) == everyone
    assert sum(map(len, held)) == 8


@given(st.lists(st.integers(0, 9), min_size=12, max_size=60), st.integers(2, 4))
def test_group_folds_partition_the_groups(groups, count):
    groups = np.array([*groups, *range(4)])
    held = []
    for rest, fold in group_folds(groups, count):
        assert not set(groups[rest]) & set(groups[fold])
        assert sorted([*rest, *fold]) == list(range(len(groups)))
        assert len(fold)
        held += list(fold)
    assert sorted(held) == list(range(len(groups)))


def test_too_few_sensors_are_named():
    with pytest.raises(UserError, match="2 sensor"):
        list(group_folds(np.array([1, 1, 2]), 3))


def test_folds_use_sensor_id_and_not_file_names(data, work, monkeypatch):
    """The folds equal scikit-learn's GroupKFold by sensor_id."""
    made, _ = data
    sensors = {clip: f"s{int(clip[3:9]) % 5}" for clip in made.train.clips}
    train = replace(made.train, sensors=sensors)
    seen = []
    real = heads._train

    def watched(examples, *args, **options):
        seen.append(set(examples.clips))
        return real(examples, *args, **options)

    monkeypatch.setattr(heads, "_train", watched)
    heads.fit_head(changed(HEAD, {"max_epochs": 1}), replace(made, train=train), work)
    groups = np.array([sensors[clip] for clip in train.clips])
    wanted = [set(train.clips[rest]) for rest, _ in GroupKFold(3).split(groups, groups=groups)]
    assert seen[:3] == wanted
    for learnt in seen[:3]:
        assert not {sensors[clip] for clip in learnt} & {sensors[clip] for clip in set(train.clips) - learnt}


def test_clips_without_sensor_are_named(data, work):
    made, _ = data
    train = replace(made.train, sensors=dict.fromkeys(made.train.clips[1:], "1"))
    with pytest.raises(UserError, match=rf"1 clip\(s\) have no sensor_id.*: {made.train.clips[0]}"):
        heads.fit_head(HEAD, replace(made, train=train), work)


def test_standardize_gives_zero_mean_and_unit_variance():
    values = torch.randn(50, 3, 5) * torch.tensor([1.0, 2, 3, 4, 0]) + 7
    layer = Standardize(5)
    layer.fit(values)
    found = layer(values).reshape(-1, 5)
    torch.testing.assert_close(found.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.tensor([1.0, 1, 1, 1, 0]), atol=1e-4, rtol=0)


def test_mixup_matches_definition():
    x, y = torch.arange(6.0).view(6, 1, 1).repeat(1, 2, 3), torch.eye(6)
    same, labels = mixup_batch({"x": x}, y, 0, np.random.default_rng(0))
    assert same["x"] is x
    assert labels is y
    mixed, labels = mixup_batch({"x": x}, y, 0.4, np.random.default_rng(1))
    found = mixed["x"]
    rng = np.random.default_rng(1)
    share, other = rng.beta(0.4, 0.4, 6), rng.permutation(6)
    for i in range(6):
        value = share[i] * i + (1 - share[i]) * other[i]
        torch.testing.assert_close(found[i], torch.full((2, 3), value, dtype=torch.float32))
        wanted = share[i] * np.eye(6)[i] + (1 - share[i]) * np.eye(6)[other[i]]
        np.testing.assert_allclose(labels[i], wanted, atol=1e-6)


def test_attention_matches_definition():
    network = Attention(Attention.Config(dropout=0.0), 3, {"frames": (4, 5)}).eval()
    x = torch.randn(2, 4, 5)
    with torch.no_grad():
        weights = torch.exp(x @ network.weigh.weight.T + network.weigh.bias)
        weights = weights / weights.sum(dim=1, keepdim=True)
        answers = 1 / (1 + torch.exp(-(x @ network.answer.weight.T + network.answer.bias)))
        torch.testing.assert_close(torch.sigmoid(network(x)), (weights * answers).sum(dim=1))


def test_attention_dropout_is_shared_by_all_frames():
    network = Attention(Attention.Config(dropout=0.25), 3, {"frames": (4, 400)}).train()
    seen = []
    network.weigh.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    frames = torch.rand(2, 4, 400) + 0.5
    network(frames)
    dropped = seen[0] == 0
    assert torch.equal(dropped.any(dim=1), dropped.all(dim=1))
    assert not torch.equal(*dropped.any(dim=1))
    assert dropped.float().mean() == pytest.approx(0.25, abs=0.08)
    torch.testing.assert_close(seen[0][~dropped], frames[~dropped] / 0.75)


def test_features_of_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="set its frames to false"):
        Head.check({"embedding": (32, 384)})
    with pytest.raises(ValueError, match="set its frames to true"):
        Attention.check({"frames": (384,)})
