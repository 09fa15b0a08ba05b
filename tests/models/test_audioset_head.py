"""The architecture audioset_head: logistic regression whose prior are AudioSet's classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import average_precision_score
from tiny import CPU, EpochRecorder, Stored

from ust.annotations.audioset import class_indices, sonyc_taxonomy
from ust.models.audioset import AudioSet
from ust.models.audioset_head import PENALTY, PRIOR_PENALTY, AudioSetHead
from ust.models.checkpoints import load_system, read_description
from ust.models.context import ContextConfig
from ust.models.examples import predict
from ust.models.head import Head
from ust.training import train_head
from ust.training.config import ContextRow, SystemConfig
from ust.training.context import TrainingContext, training_data
from ust.util.errors import UserError

SIZE = 8 + 527
SHAPES = {"embedding": (SIZE,)}
CLASSES = {"1_a": ["Siren", "Car alarm"], "2_b": [], "3_c": ["Dog"]}
SETTINGS = train_head.HeadSettings(
    lr=0.01, batch_size=16, max_epochs=20, weight_decay=[1.0], folds=3, cache_gib=0.0
)
ROW = {"trainer": "train_head", "labels": "any", "outputs": "all", "features": ["mn_windows"]}
PRIOR = SystemConfig(ContextRow(architecture="audioset_head", **ROW), AudioSetHead.Config(), SETTINGS)
PLAIN = SystemConfig(ContextRow(architecture="head", **ROW), Head.Config(), SETTINGS)


def network():
    return AudioSetHead(AudioSetHead.Config(classes=CLASSES), 3, SHAPES)


def test_before_training_its_logits_are_those_of_audioset():
    values = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(0))
    known = {label: names for label, names in CLASSES.items() if names}
    expected = torch.zeros(5, 3)
    expected[:, [0, 2]] = AudioSet(AudioSet.Config(classes=known), 2, SHAPES)(values)
    torch.testing.assert_close(network()(values), expected)


@pytest.mark.parametrize("copies", [1, 3])
def test_it_has_the_highest_penalised_likelihood(copies):
    rng = np.random.default_rng(0)
    clips, decay = 60, 0.02
    values = np.tile(rng.standard_normal((clips, SIZE)).astype(np.float32), (copies, 1))
    targets = np.tile(rng.random((clips, 3)).astype(np.float32), (copies, 1))
    targets[rng.random(targets.shape) < 0.1] = np.nan
    fitted = network()
    fitted.fit(torch.from_numpy(values), torch.from_numpy(targets), weight_decay=decay, clips=clips)

    x = values[:, :8].astype(float)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    prior = network()(torch.from_numpy(values)).detach().numpy()
    known, y = ~np.isnan(targets), np.nan_to_num(targets)

    def logits(parameters):
        scale, shift, weight = parameters[:3], parameters[3:6], parameters[6:].reshape(8, 3)
        return scale * prior + shift + x @ weight

    def objective(parameters):
        z, (scale, shift) = logits(parameters), parameters[:6].reshape(2, 3)
        value = (known * (np.logaddexp(0, z) - y * z)).sum() / copies
        penalty = PENALTY * (parameters[6:] ** 2).sum() + PRIOR_PENALTY * 3 * (scale.var() + shift.var())
        return value + decay / 2 * penalty

    start = np.r_[np.ones(3), np.zeros(27)]
    best = minimize(objective, start, method="BFGS", options={"gtol": 1e-5}).x
    found = fitted(torch.from_numpy(values)).detach().numpy()
    np.testing.assert_allclose(expit(found), expit(logits(best)), atol=2e-3)


def test_it_can_be_exported():
    fitted = network()
    values = torch.randn(40, SIZE, generator=torch.Generator().manual_seed(0))
    fitted.fit(values, (values[:, :3] > 0).float(), weight_decay=0.1, clips=40)
    fitted.eval()
    program = torch.export.export(fitted, (values,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    torch.testing.assert_close(program.module()(values[:3]), fitted(values[:3]))


@pytest.fixture
def data():
    """Twenty-four train clips and many validate clips, whose AudioSet logits tell what is present."""
    taxonomy = sonyc_taxonomy()
    labels, rng, count = list(taxonomy.labels), np.random.default_rng(0), 224
    y = (rng.random((count, len(labels))) < 0.3).astype(int)
    known = AudioSetHead.Config().complete_for_labels(taxonomy, labels).classes
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
    assert "calibration" not in description["metadata"]
    assert description["config"]["classes"]["8_dog"]
    held_out = pd.read_csv(tmp_path / "audioset_head" / "out_of_fold.csv")
    assert len(held_out) == 24


def test_what_is_refused(data, work):
    with pytest.raises(ValueError, match=r"the feature is 384 a clip, should end with 527 logits"):
        PRIOR.check_shapes({"embedding": (384,)})
    row = PRIOR.row.model_copy(update={"context": ContextConfig()})
    with pytest.raises(UserError, match=r"systems\.a\.context: is given, should be null"):
        train_head.fit_head(replace(PRIOR, row=row), data, work)
    wrong = replace(PRIOR, model=AudioSetHead.Config(classes={"8_dog": ["Puppy"]}))
    with pytest.raises(UserError, match=r"systems\.a\..*Puppy"):
        train_head.fit_head(wrong, data, work)
