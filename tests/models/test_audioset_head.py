"""The architecture audioset_head: a head combined with AudioSet's classes by out-of-fold predictions."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from tiny import CPU, EpochRecorder, Stored

from ust.annotations.audioset import class_indices, sonyc_taxonomy
from ust.evaluation.calibration import fit_calibration, fit_combination
from ust.models.audioset import AudioSet
from ust.models.audioset_head import AudioSetHead, complete_head_config
from ust.models.checkpoints import load_system, read_description
from ust.models.examples import predict
from ust.models.head import Head
from ust.training import train_head
from ust.training.config import FlatRow, System
from ust.training.context import TrainingContext, training_data
from ust.util.errors import UserError

SIZE = 8 + 527
SHAPES = {"embedding": (SIZE,)}
CLASSES = {"1_a": ["Siren", "Car alarm"], "2_b": [], "3_c": ["Dog"]}
SETTINGS = train_head.HeadSettings(
    lr=0.01, batch_size=16, max_epochs=20, weight_decay=[1.0], folds=3, cache_gib=0.0
)
ROW = {"trainer": "train_head", "labels": "any", "outputs": "all", "features": ["mn_windows"]}
PRIOR = System(FlatRow(architecture="audioset_head", **ROW), AudioSetHead.Config(), SETTINGS)
PLAIN = System(FlatRow(architecture="head", **ROW), Head.Config(), SETTINGS)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def network():
    """A head with random weights, and random weights of head and prior."""
    torch.manual_seed(0)
    network = AudioSetHead(AudioSetHead.Config(classes=CLASSES), 3, SHAPES)
    draw = np.random.default_rng(0).uniform(0.5, 2, (3, 3))
    scale, shift, prior_scale = draw
    network.combine(scale, prior_scale, shift)
    return network, torch.tensor(draw, dtype=torch.float32)


def test_its_logits_are_a_weighted_sum():
    combined, (scale, shift, prior_scale) = network()
    values = torch.randn(5, SIZE)
    head = combined.layers(combined.standardised(values))
    known = {label: names for label, names in CLASSES.items() if names}
    prior = torch.zeros(5, 3)
    prior[:, [0, 2]] = AudioSet(AudioSet.Config(classes=known), 2, SHAPES)(values)
    torch.testing.assert_close(combined.eval()(values), scale * head + prior_scale * prior + shift)
    torch.testing.assert_close(combined.train()(values), head)


def test_it_can_be_exported():
    combined = network()[0].eval()
    values = torch.randn(4, SIZE)
    program = torch.export.export(combined, (values,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    torch.testing.assert_close(program.module()(values[:3]), combined(values[:3]))


def test_weights_of_predictions_and_prior_are_recovered():
    rng = np.random.default_rng(0)
    z, prior = rng.normal(-1, 2, (2, 20_000, 3))
    scale, weight, shift = np.array([0.5, 1.0, 2.0]), np.array([1.5, 0.3, 0.8]), np.array([-1.0, 0.5, 0.0])
    y = (rng.random(z.shape) < sigmoid(scale * z + weight * prior + shift)).astype(int)
    found = fit_calibration(sigmoid(z), y, prior)
    np.testing.assert_allclose(found.scale, scale, rtol=0.1)
    np.testing.assert_allclose(found.prior_scale, weight, rtol=0.1)
    np.testing.assert_allclose(found.shift, shift, atol=0.1)
    np.testing.assert_allclose(
        found(sigmoid(z), prior),
        sigmoid(found.scale * z + found.prior_scale * prior + found.shift),
        rtol=1e-6,
    )


def test_the_share_is_that_of_the_calibrated_prior():
    rng = np.random.default_rng(0)
    z, prior = rng.normal(-1, 2, (2, 500, 3))
    prior[:, 1] = 0.0  # a label without prior
    y = (rng.random(z.shape) < sigmoid(z + prior)).astype(int)
    p = sigmoid(z)
    none, half, whole = (fit_combination(p, prior, y, share=share)(p, prior) for share in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(none, fit_calibration(p, y, prior)(p, prior))
    scaled = LogisticRegression(C=np.inf).fit(prior[:, [0, 2]].reshape(-1, 1), y[:, [0, 2]].ravel())
    alone = scaled.predict_proba(prior[:, [0, 2]].reshape(-1, 1))[:, 1].reshape(-1, 2)
    np.testing.assert_allclose(whole[:, [0, 2]], alone, rtol=1e-2)
    np.testing.assert_allclose(whole[:, 1], none[:, 1])
    logits = [np.log(values / (1 - values)) for values in (none, half, whole)]
    np.testing.assert_allclose(logits[1], (logits[0] + logits[2]) / 2, atol=1e-6)


@pytest.fixture
def data():
    """Twenty-four train clips and many validate clips, whose AudioSet logits tell what is present."""
    taxonomy = sonyc_taxonomy()
    labels, rng, count = list(taxonomy.labels), np.random.default_rng(0), 224
    y = (rng.random((count, len(labels))) < 0.3).astype(int)
    known = complete_head_config(AudioSetHead.Config(), taxonomy, labels).classes
    values = rng.standard_normal((count, SIZE)).astype(np.float32)
    for column, label in enumerate(labels):
        for name in known[label]:
            values[:, 8 + class_indices()[name]] += 2 * y[:, column]
    names = [f"{i % 6:02d}_{i:06d}.wav" for i in range(count)]
    order = np.argsort(names)
    split = np.array(["train"] * 24 + ["validate"] * 200, object)
    table = pd.DataFrame(y, pd.Index(names, name="audio_filename"), labels)
    table.insert(0, "split", split)
    clips, variants = np.array(names, object)[order], np.array(["original"] * count, object)
    stored = Stored(values[order], clips, variants, split[order])
    return training_data(PRIOR, table, {"embedding": stored}, taxonomy, {name: name[:2] for name in names})


@pytest.fixture
def work(tmp_path):
    metadata = {"inputs": {}, "features": {}}
    out = tmp_path / "out"
    return TrainingContext("a", sonyc_taxonomy(), CPU, out, None, metadata, None, EpochRecorder())


def test_the_prior_helps_where_labels_are_few(data, work, tmp_path):
    scores = []
    for system in (PLAIN, PRIOR):
        context = replace(work, out=tmp_path / system.row.architecture)
        train_head.fit_head(system, data, context)
        loaded = load_system(context.out, taxonomy=work.taxonomy)
        found = predict(loaded, data.validate, batch_size=64, device=CPU)
        scores.append(average_precision_score(data.validate.targets.ravel(), found.ravel()))
    assert scores[1] > scores[0] + 0.1
    description = read_description(tmp_path / "audioset_head")
    assert "calibration" not in description["about"]
    assert description["config"]["classes"]["8_dog"]
    held_out = pd.read_csv(tmp_path / "audioset_head" / "out_of_fold.csv")
    assert len(held_out) == 24


def test_what_is_refused(data, work):
    with pytest.raises(ValueError, match="calibrate is false, should be true"):
        PRIOR.with_training(calibrate=False).check_shapes(SHAPES)
    with pytest.raises(ValueError, match=r"the feature is 384 a clip, should end with 527 logits"):
        PRIOR.check_shapes({"embedding": (384,)})
    wrong = replace(PRIOR, network=AudioSetHead.Config(classes={"8_dog": ["Puppy"]}))
    with pytest.raises(UserError, match=r"systems\.a\..*Puppy"):
        train_head.fit_head(wrong, data, work)
