"""What systems learn from: labels, rows, targets, first weights; and what a training depends on."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from project import change_params
from tiny import BASELINE, CODE, CPU, FLAT, HIERARCHY
from torch import nn

from stages import train as stage
from ust.examples import Examples
from ust.models import CNNVGGish, NetworkConfig
from ust.params import HierarchicalCodeSystem, HierarchicalSystem, load_system
from ust.training import fit, plateau

NAMES = ("name", "system", "data", "work")


class TestWhatIsLearnt:
    """The rows and labels a system is trained on and chosen by."""

    @pytest.mark.parametrize("system", [FLAT, HIERARCHY, CODE], ids=["flat", "hierarchy", "code"])
    def test_networks_learn_the_reports_labels_and_all_variants(self, stored, tables, taxonomy, system):
        data = fit.training_data(system, *tables, *stored, taxonomy)
        logmel, _ = stored
        train_clips = logmel.clip[data.train.rows]
        assert len(train_clips) == 12
        assert list(logmel.variant[data.train.rows]).count("noise") == 2
        wanted = tables[0].loc[train_clips].drop(columns="split").to_numpy()
        np.testing.assert_array_equal(data.train.targets, wanted)
        validate_clips = logmel.clip[data.validate.rows]
        assert list(validate_clips) == [f"v{i}.wav" for i in range(6)]
        np.testing.assert_array_equal(
            data.validate.targets, tables[0].loc[validate_clips].drop(columns="split").to_numpy()
        )

    def test_the_baseline_learns_anyones_word_and_no_variants(self, stored, tables, taxonomy):
        data = fit.training_data(BASELINE, *tables, *stored, taxonomy)
        logmel, vggish = stored
        assert list(logmel.variant[data.train.rows]) == ["original"] * 10
        for part in (data.train, data.validate):
            wanted = tables[1].loc[logmel.clip[part.rows]].drop(columns="split").to_numpy()
            np.testing.assert_array_equal(part.targets, wanted)
        assert (data.train.logmel, data.train.vggish) == (logmel, vggish)

    @pytest.mark.parametrize("outputs", ["all", "fine", "coarse"])
    def test_a_flat_network_learns_the_targets_of_its_own_outputs(self, data, work, monkeypatch, outputs):
        seen = {}

        def capture(network, examples, validate, recipe, score, **options):
            seen.update(network=network, examples=examples, validate=validate, score=score)
            raise KeyboardInterrupt

        monkeypatch.setattr(fit, "train_on_stagnation", capture)
        system = FLAT.model_copy(update={"outputs": outputs})
        with pytest.raises(KeyboardInterrupt):
            fit.fit("a", system, data, work)
        columns = {"all": slice(0, 37), "fine": slice(8, 37), "coarse": slice(0, 8)}[outputs]
        np.testing.assert_array_equal(seen["examples"].targets, data.train.targets[:, columns])
        np.testing.assert_array_equal(seen["examples"].rows, data.train.rows)
        np.testing.assert_array_equal(seen["validate"].targets, data.validate.targets)
        assert seen["network"].layer.out_features == seen["examples"].targets.shape[1]
        perfect = seen["score"](data.validate.targets[:, columns])
        assert perfect["coarse"] == 1 or outputs == "fine"
        assert ("fine" in perfect) == (outputs != "coarse")
        assert perfect.get("fine", 1) == 1

    def test_the_script_reads_each_label_file_as_what_it_is(
        self, feature_files, tables, taxonomy_file, tmp_path, monkeypatch
    ):
        keys = [(f"t{i}.wav", "original", "train") for i in range(10)] + [("t3.wav", "noise", "train")]
        logmel, vggish = feature_files(keys + [(f"v{i}.wav", "original", "validate") for i in range(6)])
        for name, table in zip(("labels.csv", "any.csv"), tables, strict=True):
            columns = ["split", "audio_filename", *table.columns[1:]]
            table.reset_index()[columns].to_csv(tmp_path / name, index=False)
        seen = {}
        monkeypatch.setattr(
            stage, "fit", lambda *given: seen.update(zip(NAMES, given, strict=True))
        )  # fmt: skip
        for system, table, rows in (("cnn", tables[0], 11), ("baseline_fine", tables[1], 10)):
            words = [logmel, vggish, tmp_path / "labels.csv", tmp_path / "any.csv", taxonomy_file]
            words += [tmp_path / system, "--curves", tmp_path / "curves", "--params", ROOT / "params.yaml"]
            monkeypatch.setattr(sys, "argv", ["train", system, *map(str, words)])
            stage.main()
            data = seen["data"]
            assert (seen["name"], len(data.train), len(data.validate)) == (system, rows, 6)
            clips = data.train.logmel.clip[data.train.rows]
            np.testing.assert_array_equal(
                data.train.targets, table.loc[clips].drop(columns="split").to_numpy()
            )
            assert seen["system"] == load_system(ROOT / "params.yaml", system)
            assert ("vggish" in seen["work"].about) == (system != "cnn")
            assert seen["work"].about["logmel"] == {}


def test_the_dropouts_of_the_network_are_where_table_1_and_2_have_them():
    """Of each block of convolutions at one rate, after both hidden layers of the head at the other."""
    network = CNNVGGish(NetworkConfig(37, "concat", conv_dropout=0.4, head_dropout=0.1)).train()
    torch.manual_seed(0)
    shares = []
    for block in network.convolutions:
        block[-1].register_forward_hook(lambda _, inputs, out: shares.append(dropped(inputs[0], out)))
    for layer in network.head:
        if isinstance(layer, nn.Dropout):
            layer.register_forward_hook(lambda _, inputs, out: shares.append(dropped(inputs[0], out)))
    network(-80 * torch.rand(24, 128, 862), torch.randint(0, 256, (24, 10, 128)))
    np.testing.assert_allclose(shares, [0.4] * 6 + [0.1] * 2, atol=0.03)


def dropped(before, after):
    """The share of positive values that became 0."""
    positive = before > 0
    return ((after == 0) & positive).sum().item() / positive.sum().item()


def test_initial_weights_follow_the_seed_and_the_name():
    def weights(system, name):
        return fit.build(system, 8, name, CPU).head[-1].weight

    system = FLAT.model_copy(update={"fusion": "none"})
    assert torch.equal(weights(system, "a"), weights(system, "a"))
    assert not torch.equal(weights(system, "a"), weights(system, "b"))
    assert not torch.equal(weights(system, "a"), weights(system.model_copy(update={"seed": 1}), "a"))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [({}, "whitened"), ({"fusion": "bilinear"}, "raw"), ({"vggish_scale": "raw"}, "raw"),
     ({"fusion": "bilinear", "vggish_scale": "whitened"}, "whitened")],
)  # fmt: skip
def test_embeddings_are_raw_with_bilinear_fusion_unless_said_otherwise(monkeypatch, change, wanted):
    configs = []
    monkeypatch.setattr(fit, "CNNVGGish", lambda config: configs.append(config) or nn.Linear(1, 1))
    fit.build(FLAT.model_copy(update=change), 37, "a", CPU)
    assert configs[0].vggish_scale == wanted
    assert (configs[0].outputs, configs[0].conv_dropout, configs[0].head_dropout) == (37, 0.5, 0.2)


def test_curves_of_a_run_that_goes_on_have_all_epochs(tmp_path):
    epochs = [plateau.Epoch(number, 1.0 / number, 2.0, 0.1, best=False) for number in (1, 2, 3)]
    with stage.Curves(tmp_path / "c", "a") as curves:
        curves.on_resume("node", epochs[:2])
        curves.on_epoch("node", epochs[2])
    table = pd.read_csv(tmp_path / "c" / "node" / "plots" / "metrics" / "loss.tsv", sep="\t")
    assert table["step"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(table["loss"], [1.0, 0.5, 1 / 3])
    assert json.loads((tmp_path / "c" / "node" / "metrics.json").read_text())["step"] == 3


def test_what_a_training_goes_on_from_depends_on_all_that_it_learns(data, tmp_path, taxonomy_file):
    """Other targets, rows, a root or a rate: another key."""
    compute = SimpleNamespace(threads=1)
    for each in (data.train, data.validate):
        each.logmel.content, each.vggish.content = np.array(["a"]), np.array(["b"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "model.json").write_text("{}")

    def key(data=data, system=FLAT, root=None, threads=1, device="cpu", name="a"):
        args = SimpleNamespace(system=name, taxonomy=taxonomy_file, root=root)
        compute.threads = threads
        return stage.key(args, system, data, compute, device)

    other = data.train.having(slice(None), 1 - data.train.targets)
    fewer = Examples(data.train.logmel, data.train.vggish, data.train.rows[::-1], data.train.targets)
    keys = [
        key(),
        key(replace(data, train=other)),
        key(replace(data, train=fewer)),
        key(replace(data, validate=other)),
        key(system=FLAT.model_copy(update={"lr": 0.1})),
        key(root=tmp_path / "root"),
        key(threads=2),
        key(device="cuda"),
        key(name="b"),
    ]
    assert key() == keys[0]
    assert len(set(keys)) == len(keys)


def test_the_preset_and_the_defaults_give_every_system(tmp_path):
    change_params(
        ROOT / "params.yaml",
        tmp_path / "p.yaml",
        {"hierarchies.hierarchical.recipe": "train_hierarchical_code"},
    )
    system = load_system(tmp_path / "p.yaml", "hierarchical")
    assert isinstance(system, HierarchicalCodeSystem)
    assert (system.lr, system.pos_weight_power, system.reduce_patience, system.reduce_factor) == (
        0.001,
        0.0,
        5,
        0.1,
    )
    text = load_system(ROOT / "params.yaml", "hierarchical")
    assert isinstance(text, HierarchicalSystem)
    assert (text.lr, text.patience, text.root, text.flat) == (0.01, 10, "flat", "cnn_vggish/coarse")
