"""Inputs of trainings: labels, rows, targets, initial weights, and the key of a resumable state."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from project import change_params
from tiny import BASELINE, CODE, CONFIG, CPU, FLAT, HIERARCHY, changed, fit
from torch import nn

from stages import train as stage
from ust.features.feature import NETWORK_FILE
from ust.models.cnn_vggish import CNNVGGish
from ust.training.context import TrainingContext, training_data
from ust.training.registry import TRAINERS, read_system_config
from ust.training.train import TrainSettings
from ust.training.train_hierarchical_code import CodeSettings
from ust.training.trainer import Epoch, Trainer
from ust.util.accelerate import accelerate

NAMES = ("system", "data", "work")


class TestTrainingInputs:
    """Labels and rows used for training and validation."""

    @pytest.mark.parametrize("system", [FLAT, HIERARCHY, CODE], ids=["flat", "hierarchy", "code"])
    def test_networks_train_on_majority_labels_and_all_variants(self, stored, tables, taxonomy, system):
        data = training_data(system, tables[0], stored, taxonomy)
        logmel = stored["logmel"]
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

    def test_baseline_trains_on_any_labels_without_variants(self, stored, tables, taxonomy):
        data = training_data(BASELINE, tables[1], stored, taxonomy)
        logmel = stored["logmel"]
        assert list(logmel.variant[data.train.rows]) == ["original"] * 10
        for part in (data.train, data.validate):
            wanted = tables[1].loc[logmel.clip[part.rows]].drop(columns="split").to_numpy()
            np.testing.assert_array_equal(part.targets, wanted)
        assert data.train.features == stored

    @pytest.mark.parametrize("outputs", ["all", "fine", "coarse"])
    def test_flat_network_trains_on_targets_of_its_outputs(self, data, work, monkeypatch, outputs):
        seen = {}

        def capture(self):
            seen["trainer"] = self
            raise KeyboardInterrupt

        monkeypatch.setattr(Trainer, "fit", capture)
        predicted = []
        monkeypatch.setattr(
            Trainer, "predict", lambda self, examples, _: predicted.append(examples) or perfect
        )
        with pytest.raises(KeyboardInterrupt):
            fit(changed(FLAT, {"outputs": outputs}), data, work)
        trainer = seen["trainer"]
        columns = {"all": slice(0, 37), "fine": slice(8, 37), "coarse": slice(0, 8)}[outputs]
        np.testing.assert_array_equal(trainer.examples.targets, data.train.targets[:, columns])
        np.testing.assert_array_equal(trainer.examples.rows, data.train.rows)
        assert trainer.network.layer.out_features == trainer.examples.targets.shape[1]
        perfect = data.validate.targets[:, columns]
        scores = trainer.monitor(trainer)
        np.testing.assert_array_equal(predicted[0].targets, data.validate.targets)
        assert scores["coarse"] == 1 or outputs == "fine"
        assert ("fine" in scores) == (outputs != "coarse")
        assert scores.get("fine", 1) == 1

    def test_train_stage_reads_the_label_file_of_its_row(
        self, feature_files, tables, taxonomy_file, tmp_path, monkeypatch
    ):
        keys = [(f"t{i}.wav", "original", "train") for i in range(10)] + [("t3.wav", "noise", "train")]
        feature_files(keys + [(f"v{i}.wav", "original", "validate") for i in range(6)])
        for name, table in zip(("majority.csv", "any.csv"), tables, strict=True):
            columns = ["split", "audio_filename", *table.columns[1:]]
            table.reset_index()[columns].to_csv(tmp_path / name, index=False)
        seen = {}

        def capture(*given):
            seen.update(zip(NAMES, given, strict=True))
            seen["work"].callbacks.rows.append({"network": "a", "epoch": 1})

        for name, trainer in TRAINERS.items():
            monkeypatch.setitem(TRAINERS, name, replace(trainer, fit=capture))
        for system, table, rows in (("cnn", tables[0], 11), ("baseline_fine", tables[1], 10)):
            words = [
                tmp_path,
                tmp_path,
                taxonomy_file,
                tmp_path / "models" / system,
                tmp_path / "history.csv",
            ]
            words += ["--params", ROOT / "params.yaml"]
            monkeypatch.setattr(sys, "argv", ["train", system, *map(str, words)])
            stage.main()
            data = seen["data"]
            assert (seen["work"].name, len(data.train), len(data.validate)) == (system, rows, 6)
            (only,) = data.train.features
            assert only == ("logmel" if system == "cnn" else "vggish")
            clips = data.train.features[only].clip[data.train.rows]
            np.testing.assert_array_equal(
                data.train.targets, table.loc[clips].drop(columns="split").to_numpy()
            )
            assert seen["system"] == read_system_config(ROOT / "params.yaml", system)
            assert list(seen["work"].metadata["features"]) == [only]


@pytest.mark.parametrize("fast", [False, True])
def test_dropout_layers_are_those_of_tables_1_and_2(fast):
    """One rate after each block of convolutions, another after both hidden layers of the head."""
    config = CONFIG.model_copy(update={"conv_dropout": 0.4, "head_dropout": 0.1})
    network = CNNVGGish(config, 37).train()
    network = accelerate(network) if fast else network
    torch.manual_seed(0)
    shares = []
    for block in network.convolutions:
        layer = block[-2] if fast else block[-1]
        layer.register_forward_hook(lambda _, inputs, out: shares.append(dropped(inputs[0], out)))
    for layer in network.head:
        if isinstance(layer, nn.Dropout):
            layer.register_forward_hook(lambda _, inputs, out: shares.append(dropped(inputs[0], out)))
    network(-80 * torch.rand(24, 128, 862), torch.randint(0, 256, (24, 10, 128)))
    np.testing.assert_allclose(shares, [0.4] * 6 + [0.1] * 2, atol=0.03)


def dropped(before, after):
    """Return the share of positive values that became 0."""
    positive = before > 0
    return ((after == 0) & positive).sum().item() / positive.sum().item()


def test_initial_weights_depend_on_seed_and_name():
    def weights(system, name):
        return (
            TrainingContext(name, None, CPU, None, None, {}, None, None)
            .build_network(system, 8, name, SimpleNamespace(shapes={}))
            .head[-1]
            .weight
        )

    system = FLAT
    assert torch.equal(weights(system, "a"), weights(system, "a"))
    assert not torch.equal(weights(system, "a"), weights(system, "b"))
    assert not torch.equal(weights(system, "a"), weights(changed(system, {"seed": 1}), "a"))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [({}, "whitened"), ({"fusion": "bilinear"}, "raw"), ({"vggish_scale": "raw"}, "raw"),
     ({"fusion": "bilinear", "vggish_scale": "whitened"}, "whitened")],
)  # fmt: skip
def test_bilinear_fusion_uses_raw_embeddings_by_default(change, wanted):
    config = changed(FLAT, change).model
    assert config.scale == wanted
    with torch.device("meta"):
        assert CNNVGGish(config, 37).scale == wanted
    assert (config.conv_dropout, config.head_dropout) == (0.5, 0.2)


def test_curves_of_a_resumed_run_have_all_epochs(tmp_path):
    epochs = [Epoch(number, 1.0 / number, {"validation_loss": 2.0}, 0.1) for number in (1, 2, 3)]
    history = stage.History("a")
    history.on_resume("node", epochs[:2])
    history.on_epoch("node", epochs[2])
    history.write(tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv")
    assert table["epoch"].tolist() == [1, 2, 3]
    assert table["network"].tolist() == ["a/node"] * 3
    np.testing.assert_allclose(table["loss"], [1.0, 0.5, 1 / 3], rtol=1e-5)


def test_resume_key_depends_on_targets_rows_root_and_settings(data, tmp_path, taxonomy_file):
    for name, file in data.train.features.items():
        file.digest = lambda name=name: name
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "model.json").write_text("{}")
    (tmp_path / "vggish").mkdir()
    (tmp_path / "vggish" / NETWORK_FILE).write_text("{}")

    def key(data=data, system=FLAT, root=None, threads=1, device="cpu", name="a", pretrained=None):
        args = SimpleNamespace(system=name, taxonomy=taxonomy_file, root=root, pretrained=pretrained)
        return stage.training_digest(args, system, data, threads, device)

    other = data.train.subset(slice(None), 1 - data.train.targets)
    fewer = replace(data.train, rows=data.train.rows[::-1])
    keys = [
        key(),
        key(replace(data, train=other)),
        key(replace(data, train=fewer)),
        key(replace(data, validate=other)),
        key(system=changed(FLAT, {"lr": 0.1})),
        key(root=tmp_path / "root"),
        key(threads=2),
        key(device="cuda"),
        key(name="b"),
        key(pretrained=tmp_path / "vggish"),
    ]
    assert key() == keys[0]
    assert len(set(keys)) == len(keys)


def test_preset_and_defaults_give_every_system(tmp_path):
    change_params(
        ROOT / "params.yaml",
        tmp_path / "p.yaml",
        {"hierarchies.hierarchical.trainer": "train_hierarchical_code"},
    )
    settings = read_system_config(tmp_path / "p.yaml", "hierarchical").training
    assert isinstance(settings, CodeSettings)
    assert (settings.lr, settings.pos_weight_power, settings.reduce_patience, settings.reduce_factor) == (
        0.001,
        0.0,
        5,
        0.1,
    )
    text = read_system_config(ROOT / "params.yaml", "hierarchical")
    assert isinstance(text.training, TrainSettings)
    assert (text.training.schedule, text.training.patience) == ("cosine", 10)
    assert (text.row.root, text.row.flat) == ("flat", "cnn_vggish/coarse")
