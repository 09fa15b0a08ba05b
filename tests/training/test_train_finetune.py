"""Fine-tuning: loss, sampling, early stopping, averaging and windows."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from tiny import CPU, EpochRecorder, changed, sixteen_clips

from ust.annotations.taxonomy import is_incomplete
from ust.evaluation.predictions import read_predictions
from ust.models.checkpoints import load_system, read_description
from ust.models.cnn9 import CNN9
from ust.models.examples import predict
from ust.models.mobilenet import TaggingMobileNet
from ust.models.mobilenetv2 import MobileNetV2
from ust.models.registry import ARCHITECTURES
from ust.training import losses
from ust.training import train_finetune as finetune
from ust.training.config import PretrainedRow, SystemConfig
from ust.training.context import TrainingContext
from ust.training.train_baseline import loss_mask
from ust.training.trainer import Trainer
from ust.util.errors import UserError

SYSTEM = SystemConfig(
    PretrainedRow(
        trainer="train_finetune", network="efficientat", architecture="mobilenet", features=["mn_logmel"],
        labels="any", outputs="coarse",
    ),
    TaggingMobileNet.Config(hidden_size=8),
    finetune.FinetuneSettings(
        head_lr=0.01, head_weight_decay=0.1, head_epochs=30, lr=0.001, weight_decay=0.0, batch_size=4,
        max_epochs=2, mixup=0.3, overlay=0.3, gain_db=3.0, mask_bands=16, mask_frames=20, interpolate=1.0,
        cache_gib=0.0,
    ),
)  # fmt: skip

CONFIG = TaggingMobileNet.Config(width=0.4, windows=4, hidden_layers=0, hidden_size=8, dropout=0.0)


def test_finetuning_loss_matches_definition():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(5, 3)), rng.choice([0.0, 0.3, 1.0], (5, 3))
    p = 1 / (1 + np.exp(-logits))

    def wanted(y, gamma):
        return np.mean(np.abs(p - y) ** gamma * -(y * np.log(p) + (1 - y) * np.log(1 - p)))

    given = torch.from_numpy(logits), torch.from_numpy(y)
    assert losses.tagging_loss(*given).item() == pytest.approx(wanted(y, 0))
    assert losses.tagging_loss(*given, gamma=2.0).item() == pytest.approx(wanted(y, 2))
    assert losses.tagging_loss(*given, smoothing=0.2).item() == pytest.approx(wanted(0.8 * y + 0.1, 0))


def test_uncertain_negatives_are_masked_in_the_loss(taxonomy):
    """With hard -X labels this is the loss of the challenge's baseline."""
    rng = np.random.default_rng(0)
    targets = (rng.random((6, len(taxonomy.labels))) < 0.5).astype(np.float32)
    complete = [label for label in taxonomy.fine if not is_incomplete(label)]
    counts = dict.fromkeys(taxonomy.labels, np.ones(6)) | dict(
        zip(complete, loss_mask(targets, complete, taxonomy).T, strict=True)
    )
    logits, y = torch.from_numpy(rng.normal(size=targets.shape)), torch.from_numpy(targets).double()
    terms = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none").numpy()
    unknown = losses.unknown_columns(taxonomy.labels, taxonomy)
    found = losses.tagging_loss(logits, y, unknown=unknown)
    assert found.item() == pytest.approx(np.mean(terms * np.stack(list(counts.values()), axis=1)))
    assert found.item() < losses.tagging_loss(logits, y).item()
    half = losses.tagging_loss(logits, y / 2, unknown=unknown).item()
    assert losses.tagging_loss(logits, y / 2).item() / 2 < half < losses.tagging_loss(logits, y / 2).item()


def test_balanced_sampler_draws_rare_labels_more_often():
    targets = np.zeros((1000, 2), np.float32)
    targets[:500, 0], targets[:20, 1] = 1, 1  # half of them have the one, a fiftieth the other
    assert sorted(losses.sample_epoch(targets, 0.0, np.random.default_rng(0))) == list(range(1000))
    for balance in (0.5, 1.0):
        order = np.concatenate(
            [losses.sample_epoch(targets, balance, np.random.default_rng(i)) for i in range(20)]
        )
        weights = np.array([50.0] * 20 + [2.0] * 480 + [1.0] * 500) ** balance
        share = weights[:20].sum() / weights.sum()
        assert np.mean(order < 20) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(order)))


@pytest.fixture(scope="module")
def city(taxonomy):
    """Examples whose first coarse label raises the low bands."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.1, (16, 128, 100))
    x[1::2, :40] += 1.5
    return sixteen_clips(SYSTEM, "log_mel", x, taxonomy)


@pytest.fixture
def work(taxonomy, tmp_path, pretrained):
    metadata = {"inputs": {"log_mel": "mn_logmel"}, "features": {}}
    return TrainingContext(
        "a", taxonomy, CPU, tmp_path / "out", None, metadata, None, EpochRecorder(), pretrained=pretrained
    )


def test_finetuning_learns_with_frozen_batch_norm_statistics(city, work):
    finetune.fit_finetuned(SYSTEM, city, work)
    found = predict(load_system(work.out, taxonomy=work.taxonomy), city.validate, batch_size=2, device=CPU)
    there = city.validate.targets[:, 0] == 1
    assert found[there, 0].min() > found[~there, 0].max()
    before = finetune.load_network(work.pretrained, 0.4)
    after = load_system(work.out, taxonomy=work.taxonomy).classifier.network
    statistics = [name for name, _ in before.features.named_buffers() if "running" in name]
    first, second = before.features.state_dict(), after.pretrained.features.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in statistics)
    assert not torch.equal(first["0.0.weight"], second["0.0.weight"])
    assert [epoch.number for _, epoch in work.callbacks.epochs] == [1, 2]


@pytest.fixture(scope="module")
def finetuned(city, taxonomy, pretrained, tmp_path_factory):
    """A function that fine-tunes for an epoch with some settings changed and returns the model folder."""

    @cache
    def train(**changes):
        metadata = {"inputs": {"log_mel": "mn_logmel"}, "features": {}}
        out = tmp_path_factory.mktemp("finetuned") / "out"
        work = TrainingContext(
            "a", taxonomy, CPU, out, None, metadata, None, EpochRecorder(), pretrained=pretrained
        )
        finetune.fit_finetuned(changed(SYSTEM, {"max_epochs": 1} | changes), city, work)
        return out

    return train


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_finetuning_is_deterministic_and_independent_of_validate(finetuned, city, work, average):
    other = city.validate.subset(slice(2), 1 - city.validate.targets[:2])
    system = changed(SYSTEM, {"average": average, "max_epochs": 1})
    finetune.fit_finetuned(system, replace(city, validate=other), work)
    first, second = (
        (place / "weights.safetensors").read_bytes() for place in (finetuned(average=average), work.out)
    )
    assert first == second


def test_folds_add_out_of_fold_predictions_without_changing_the_network(finetuned, city, taxonomy):
    plain, folded = finetuned(average=0.0), finetuned(folds=2)
    first, second = ((place / "weights.safetensors").read_bytes() for place in (plain, folded))
    assert first == second
    assert not (plain / "out_of_fold.csv").exists()
    _, missing = read_predictions(folded / "out_of_fold.csv", list(city.train.clips), taxonomy)
    assert not missing
    metadata = read_description(folded)["metadata"]
    assert len(metadata["calibration"]["scale"]) == len(taxonomy.coarse)
    assert set(metadata["thresholds"]) == set(taxonomy.labels)


def test_early_stopping_uses_held_out_clips(city, work, tmp_path, monkeypatch):
    """Fold 0 is best after two epochs and fold 1 after four; all clips are trained for the median, three."""
    losses = {0: [0.5, 0.4, 0.45, 0.41], 1: [0.5, 0.4, 0.45, 0.3, 0.35, 0.35]}
    monitored, fold_networks = [], []

    def loss(found, targets):
        fold = 0 if len(monitored) < 4 else 1
        monitored.append(
            (fold, {name: value.clone() for name, value in running[-1].trained.state_dict().items()})
        )
        return {"validation_loss": losses[fold][sum(each == fold for each, _ in monitored) - 1]}

    running = []
    real_fit = Trainer.fit

    def fit(self):
        running.append(self)
        return real_fit(self)

    monkeypatch.setattr(Trainer, "fit", fit)
    monkeypatch.setattr(finetune, "_cross_entropy", loss)
    cross_fit = finetune.cross_val_predict

    def watched(folds, examples, work, train):
        def remembered(rest, fold, number):
            network = train(rest, fold, number)
            fold_networks.append(({*rest.clips} & {*fold.clips}, network.state_dict()))
            return network

        return cross_fit(folds, examples, work, remembered)

    monkeypatch.setattr(finetune, "cross_val_predict", watched)
    system = changed(SYSTEM, {"max_epochs": 9, "folds": 2, "stop_patience": 2})
    finetune.fit_finetuned(system, city, work)
    assert [fold for fold, _ in monitored] == [0] * 4 + [1] * 6
    assert [epoch.number for _, epoch in work.callbacks.epochs] == [1, 2, 3]
    assert read_description(work.out)["metadata"]["epoch"] == 3
    for (common, found), best in zip(fold_networks, (monitored[1][1], monitored[4 + 3][1]), strict=True):
        assert not common
        assert all(torch.equal(found[name], value) for name, value in best.items())


def test_stopping_early_needs_folds():
    with pytest.raises(ValueError, match=r"stop_patience is 2, but folds is 0.*set folds to 2 or more"):
        finetune.FinetuneSettings(stop_patience=2)
    assert finetune.FinetuneSettings(stop_patience=2, folds=2).has_folds


def weights(folder, taxonomy):
    return load_system(folder, taxonomy=taxonomy).classifier.network.state_dict()


def test_average_with_decay_0_gives_the_last_weights(finetuned, taxonomy):
    name = "pretrained.features.0.0.weight"
    last, no_decay, decay = (
        weights(finetuned(average=average), taxonomy)[name] for average in (0.0, 1e-9, 0.9)
    )
    torch.testing.assert_close(last, no_decay)
    assert not torch.allclose(last, decay)


def test_interpolated_weights_lie_between_start_and_end(finetuned, taxonomy, pretrained):
    folders = {0.0: finetuned(interpolate=0.0), 0.5: finetuned(interpolate=0.5), 1.0: finetuned(average=0.0)}
    made = {share: weights(folder, taxonomy) for share, folder in folders.items()}
    start = finetune.load_network(pretrained, 0.4).features.state_dict()
    for name, value in made[0.0].items():
        torch.testing.assert_close(made[0.5][name].double(), (value.double() + made[1.0][name]) / 2)
        if name.startswith("pretrained.features."):
            torch.testing.assert_close(value, start[name.removeprefix("pretrained.features.")])
    first, second = (made[share]["pretrained.features.0.0.weight"] for share in (0.0, 0.5))
    assert not torch.allclose(first, second)


def embeddings(network, data):
    """Return a MobileNet's embeddings of the validate clips."""
    with torch.no_grad():
        return network(
            torch.from_numpy(np.stack(data.validate.features["log_mel"][data.validate.rows])).float()
        )


def test_distillation_keeps_the_pretrained_classes(city, work, tmp_path):
    """With a large weight, AudioSet's classifier gives nearly the probabilities of the unchanged network."""
    teacher = finetune.load_network(work.pretrained, 0.4).eval()
    before = teacher.logits(embeddings(teacher, city)).sigmoid()
    distances = []
    for weight in (0.0, 1000.0):
        out = tmp_path / str(weight)
        finetune.fit_finetuned(
            changed(SYSTEM, {"distillation": weight, "max_epochs": 8}), city, replace(work, out=out)
        )
        network = load_system(out, taxonomy=work.taxonomy).classifier.network
        assert {name.split(".")[0] for name in network.state_dict()} == {"pretrained", "head"}
        after = teacher.logits(embeddings(network.pretrained, city)).sigmoid()
        distances.append((after - before).abs().mean().item())
    assert distances[1] < 0.5 * distances[0]


def test_windows_are_adjacent_in_training_and_overlap_in_inference(pretrained):
    network = TaggingMobileNet(CONFIG, 8, {"log_mel": (128, 1000)})
    before = finetune.load_network(pretrained, 0.4)
    network.load_pretrained(before)
    network.pretrained.eval()
    x = torch.randn(2, 128, 1000, generator=torch.Generator().manual_seed(0))
    for training, starts in ((True, range(0, 1000, 250)), (False, range(0, 751, 125))):
        network.training = training
        embeddings = torch.stack([before(x[:, :, start : start + 250]) for start in starts])
        maxima = embeddings.amax(0), before.logits(embeddings).amax(0)
        torch.testing.assert_close(network.embed(x), torch.cat([before(x), *maxima], 1), atol=1e-4, rtol=1e-4)
    network.windows = 0
    torch.testing.assert_close(network.embed(x), before(x))


def test_missing_or_mismatched_weights_are_named(city, work):
    with pytest.raises(UserError, match=r"a: width is 1, but efficientat has random, of width 0\.4"):
        finetune.fit_finetuned(changed(SYSTEM, {"width": 1.0}), city, work)
    with pytest.raises(UserError, match="a is fine-tuned: give --pretrained"):
        finetune.fit_finetuned(SYSTEM, city, replace(work, pretrained=None))


@pytest.mark.parametrize(
    ("kind", "shape", "count"),
    # MobileNetV2 has 2,223,872 before its classifier, less the two channels that a log-mel does not have.
    [(CNN9, (64, 640), None), (MobileNetV2, (128, 862), 2_223_872 - 2 * 32 * 9)],
)
def test_presets_of_peers_match_their_publications(kind, shape, count):
    network = kind(kind.Config(), 5, {"logmel": shape})
    weights = sum(parameter.numel() for parameter in network.parameters())
    size = network.answer.in_features
    if kind is CNN9:
        pairs = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
        count = sum(9 * a * b + 2 * b for a, b in pairs)
    assert weights == count + 5 * size + 5
    assert network.eval()(torch.rand(2, *shape) * -80).shape == (2, 5)
    with pytest.raises(ValueError, match="no log-mel"):
        kind.check({"logmel": (384,)})
    assert kind in ARCHITECTURES.values()
