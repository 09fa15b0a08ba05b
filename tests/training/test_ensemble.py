"""Ensembles: weights of the members, loading and prediction."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from project import ROOT, change_params

from ust.cli.parameters import check_params
from ust.evaluation.predictions import read_predictions, write_predictions
from ust.models.checkpoints import SavedNetwork, build_network, load_system, save_network
from ust.models.head import Head
from ust.training.ensemble import build_ensemble, fit_weights
from ust.util.documents import read_json, write_json
from ust.util.errors import UserError

CONFIG = Head.Config(hidden_layers=0, hidden_size=4, dropout=0.0)
SHAPES = {"embedding": (6,)}


def entropy(p, y):
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


class TestShares:
    @given(st.integers(0, 99), st.floats(0.1, 3), st.floats(0.1, 3))
    def test_weights_of_two_members_are_optimal(self, seed, first, second):
        rng = np.random.default_rng(seed)
        y = (rng.random((30, 4)) < 0.3).astype(float)
        held = np.stack(
            [1 / (1 + np.exp(-(2 * y - 1) - noise * rng.normal(size=y.shape))) for noise in (first, second)]
        )
        found = fit_weights(held, y)
        assert found.sum() == pytest.approx(1)
        assert found.min() >= 0
        tried = [entropy(share * held[0] + (1 - share) * held[1], y) for share in np.linspace(0, 1, 101)]
        assert entropy(np.tensordot(found, held, 1), y) <= min(tried) + 1e-7

    def test_perfect_member_gets_all_weight_and_equal_members_share_it(self):
        rng = np.random.default_rng(0)
        y = (rng.random((50, 3)) < 0.5).astype(float)
        right, wrong = 0.9 * y + 0.05, 0.95 - 0.9 * y
        np.testing.assert_allclose(fit_weights(np.stack([wrong, right, wrong]), y), [0, 1, 0], atol=1e-6)
        np.testing.assert_allclose(fit_weights(np.stack([right, right]), y), [0.5, 0.5], atol=1e-6)
        assert fit_weights(np.zeros((2, 5, 0)), np.zeros((5, 0))).tolist() == [0.5, 0.5]


@pytest.fixture
def trained(taxonomy, tmp_path):
    """Two untrained heads on the features a and b, and labels of twenty clips."""
    rng = np.random.default_rng(1)
    names = [f"{i:02d}_{i:06d}.wav" for i in range(20)]
    labels = pd.DataFrame(
        (rng.random((20, 37)) < 0.4).astype(float),
        pd.Index(names, name="audio_filename"),
        list(taxonomy.labels),
    )
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        metadata = {"versions": {}, "calibration": {"scale": [0.5] * 37, "shift": [seed] * 37}, "epoch": 3}
        metadata |= {
            "taxonomy": asdict(taxonomy), "outputs": "all", "inputs": {"embedding": name}, "parameters": 7,
            "features": {name: {"weights": "random"}}, "architecture": f"head on {name}", "converged": True,
        }  # fmt: skip
        network = build_network("head", CONFIG, 37, SHAPES)
        save_network(
            tmp_path / name, SavedNetwork(network, "head", CONFIG, list(taxonomy.labels), metadata, SHAPES)
        )
        write_predictions(tmp_path / name / "out_of_fold.csv", names, rng.random((20, 37)), taxonomy)
    return tmp_path, labels


def test_ensemble_is_the_weighted_average_of_its_members(trained, taxonomy):
    place, labels = trained
    shares = build_ensemble([place / "a", place / "b"], labels, taxonomy, place / "both")
    assert all(sum(of) == pytest.approx(1, abs=1e-3) for of in shares.values())
    system = load_system(place / "both")
    assert system.metadata["inputs"] == {"a": "a", "b": "b"}
    assert system.metadata["parameters"] == 14
    assert not {"calibration", "epoch"} & system.metadata.keys()  # which are its members'
    given = {name: torch.rand(5, 6) for name in "ab"}
    alone = [load_system(place / name)(embedding=given[name]) for name in "ab"]
    found = system(**given)
    k = len(taxonomy.coarse)
    for level, columns in (("coarse", slice(k)), ("fine", slice(k, None))):
        wanted = sum(share * each[:, columns] for share, each in zip(shares[level], alone, strict=True))
        torch.testing.assert_close(found[:, columns], wanted)
    held = [
        read_predictions(place / name / "out_of_fold.csv", list(labels.index), taxonomy)[0].to_numpy()
        for name in ("a", "b", "both")
    ]
    first, second = shares["fine"]
    np.testing.assert_allclose(held[2][:, k:], first * held[0][:, k:] + second * held[1][:, k:], atol=2e-6)


def test_ensemble_can_contain_an_ensemble(trained, taxonomy):
    place, labels = trained
    build_ensemble([place / "a", place / "b"], labels, taxonomy, place / "both")
    (place / "c").mkdir()
    for path in (place / "a").iterdir():
        (place / "c" / path.name).write_bytes(path.read_bytes())
    build_ensemble([place / "both", place / "c"], labels, taxonomy, place / "three")
    system = load_system(place / "three")
    assert system.metadata["parameters"] == 21
    found = system(a=torch.rand(3, 6), b=torch.rand(3, 6))
    assert found.shape == (3, 37)
    assert ((found > 0) & (found < 1)).all()


def test_incompatible_members_are_named(trained, taxonomy, tmp_path):
    place, labels = trained
    with pytest.raises(UserError, match="an ensemble of a, a: name each once"):
        build_ensemble([place / "a", place / "a"], labels, taxonomy, tmp_path / "out")
    (place / "b" / "out_of_fold.csv").unlink()
    with pytest.raises(UserError, match="b: keeps no out-of-fold predictions"):
        build_ensemble([place / "a", place / "b"], labels, taxonomy, tmp_path / "out")
    description = place / "b" / "model.json"
    description.write_text(description.read_text().replace('"all"', '"coarse"'))
    with pytest.raises(UserError, match=r"b: was trained with another outputs than .*a; train both alike"):
        build_ensemble([place / "a", place / "b"], labels, taxonomy, tmp_path / "out")
    write_json(description, {"kind": "flat", "metadata": {"taxonomy": {}}})
    with pytest.raises(UserError, match=r"b/model.json: lacks metadata of the system"):
        build_ensemble([place / "a", place / "b"], labels, taxonomy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("shares", "message"),
    [({"coarse": [1.0], "fine": [1.0]}, "shares of 1 members for 2"), ({"coarse": [0.5, 0.5]}, "'fine'")],
)
def test_damaged_ensemble_description_is_named(trained, taxonomy, shares, message):
    place, labels = trained
    build_ensemble([place / "a", place / "b"], labels, taxonomy, place / "both")
    path = place / "both" / "model.json"
    write_json(path, read_json(path, made_by="ensemble") | {"shares": shares})
    with pytest.raises(UserError, match=f"not a description of a system .*{message}"):
        load_system(place / "both")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"first": "cnn", "second": "cnn", "labels": "any"},
            "second: is 'cnn', should be another than first",
        ),
        (
            {"first": "cnn", "second": "cnn_vggish", "labels": "any"},
            "first: is 'cnn', which keeps no out-of-fold",
        ),
        ({"first": "cnn", "second": "nobody", "labels": "any"}, "second: is 'nobody', which is no system"),
        ({"first": "both", "second": "cnn", "labels": "any"}, "first: is 'both', which is no system"),
        (
            {"first": "cnn", "second": "cnn_vggish", "labels": "x"},
            "labels: is 'x', should be a row of labels",
        ),
        ({"first": "cnn", "second": "cnn_vggish"}, "labels: is missing"),
    ],
)
def test_invalid_ensemble_row_is_named(tmp_path, row, message):
    with pytest.raises(UserError, match=f"ensembles.both.{message}"):
        change_params(ROOT / "params.yaml", tmp_path / "params.yaml", {"ensembles.both": row})
        check_params(tmp_path / "params.yaml")
