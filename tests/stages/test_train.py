"""The stage train: processes, sensors of the folds, and metadata of the model."""

import logging
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from project import change_params

from stages import run_stage
from stages import train as stage
from ust.cli import console
from ust.features import store as stage_store
from ust.features.context import read_context
from ust.training import distributed
from ust.training.registry import TRAINERS
from ust.util.errors import UserError

HEAD = {
    "trainer": "train_head", "architecture": "attention", "features": ["vggish"], "labels": "any",
    "outputs": "coarse", "dropout": 0.1,
}  # fmt: skip


@pytest.fixture
def trained(feature_files, taxonomy, taxonomy_file, tmp_path, monkeypatch):
    """A function that runs the stage with some parameters changed; returns the arguments of the trainer."""
    names = [f"{i // 5:02d}_{i:06d}.wav" for i in range(14)]
    splits = ["train"] * 10 + ["validate"] * 4
    feature_files([(name, "original", split) for name, split in zip(names, splits, strict=True)])
    table = pd.DataFrame(0, range(14), list(taxonomy.labels))
    table.insert(0, "split", splits)
    table.insert(1, "audio_filename", names)
    for rule in ("any", "majority"):
        table.to_csv(tmp_path / f"{rule}.csv", index=False)
    # Sensors that the file names do not show.
    rows = table.rename(columns={label: f"{label}_presence" for label in taxonomy.labels})
    rows.insert(1, "sensor_id", [i % 4 for i in range(14)])
    rows.assign(annotator_id=1).to_csv(tmp_path / "annotations.csv", index=False)
    calls = []
    for name, trainer in TRAINERS.items():
        monkeypatch.setitem(TRAINERS, name, replace(trainer, fit=lambda *given: calls.append(given)))

    def run(system, changes, *words):
        calls.clear()
        params = tmp_path / "params.yaml"
        change_params(ROOT / "params.yaml", params, changes)
        paths = (tmp_path, tmp_path, taxonomy_file, tmp_path / "models" / system, tmp_path / "history.csv")
        words = ["train", system, *map(str, paths), "--params", str(params), *map(str, words)]
        monkeypatch.setattr(sys, "argv", words)
        stage.main()
        return calls

    return run


def test_single_process_trainer_reports_that_it_uses_one_process(trained, monkeypatch, caplog):
    """compute.processes applies to all systems, also to those that train in one process."""
    launched = []
    monkeypatch.setattr(distributed, "launch", lambda count, words: launched.append(count))
    caplog.set_level(logging.INFO, logger=console.log.name)
    monkeypatch.setattr(console.log, "propagate", True)
    two = {"compute.processes": 2}
    assert len(trained("baseline_fine", two)) == 1
    message = "baseline_fine: train_baseline trains in one process; compute.processes is 2"
    assert [record.getMessage() for record in caplog.records].count(message) == 1
    assert launched == []
    assert len(trained("cnn", two)) == 0  # but in each of the two that are started
    assert launched == [2]


def test_only_rank_0_trains_a_single_process_trainer(trained, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, times in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert len(trained("baseline_fine", {"compute.processes": 2})) == times


def test_train_stage_folds_use_sensor_id(trained, tmp_path):
    changes = {"systems.head": HEAD}
    with pytest.raises(UserError, match="head: its folds keep sensors apart; give --annotations"):
        trained("head", changes)
    ((_, data, _),) = trained("head", changes, "--annotations", tmp_path / "annotations.csv")
    numbers = np.array([int(clip[3:9]) for clip in data.train.clips])
    assert data.train.groups.tolist() == [str(number % 4) for number in numbers]


def test_changed_sensors_start_a_new_training(trained, tmp_path, monkeypatch):
    """A state with other folds is not resumed."""
    keys = []
    real = stage.training_digest
    monkeypatch.setattr(stage, "training_digest", lambda *given: keys.append(real(*given)) or keys[-1])
    path = tmp_path / "annotations.csv"
    for sensor in (None, None, 7):
        rows = pd.read_csv(path)
        rows.assign(sensor_id=sensor or rows["sensor_id"]).to_csv(path, index=False)
        trained("head", {"systems.head": HEAD}, "--annotations", path)
    assert keys[0] == keys[1] != keys[2]


CONTEXT = {"week": 27, "day": 5, "hour": 15, "borough": 3, "latitude": 40.65, "longitude": -73.97}


@pytest.mark.whole
def test_a_system_with_context_reads_time_and_place_of_the_annotations(trained, tmp_path, monkeypatch):
    """By clip; another time makes another training, and other systems do not read the columns."""
    keys, path = [], tmp_path / "annotations.csv"
    real = stage.training_digest
    monkeypatch.setattr(stage, "training_digest", lambda *given: keys.append(real(*given)) or keys[-1])
    changes = {"systems.cnn.context": {"dropout": 0.3}}
    with pytest.raises(UserError, match="cnn: takes time and place; give --annotations"):
        trained("cnn", changes)
    rows = pd.read_csv(path)
    for hour in (range(14), range(1, 15)):
        rows.assign(**CONTEXT | {"hour": list(hour)}).to_csv(path, index=False)
        ((system, data, context),) = trained("cnn", changes, "--annotations", path)
    assert keys[0] != keys[1]
    assert system.context.dropout == 0.3
    assert context.metadata["inputs"] == {"logmel": "logmel", "context": "context"}
    wanted = read_context(path)
    found = data.train.features["context"][data.train.rows]
    for clip, values in zip(data.train.clips, found, strict=True):
        np.testing.assert_array_equal(values, wanted[clip])
    rows.assign(**CONTEXT | {"hour": 25}).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"annotations.csv: 14 problem.*\n  line 2: hour is '25'"):
        trained("cnn", changes, "--annotations", path)
    ((_, data, _),) = trained("cnn", {}, "--annotations", path)
    assert list(data.train.features) == ["logmel"]


def test_cache_is_divided_among_processes(trained, monkeypatch):
    cache_sizes = []
    real = stage_store.open_feature_files
    monkeypatch.setattr(
        stage_store,
        "open_feature_files",
        lambda *given, **named: cache_sizes.append(named["cache_gib"]) or real(*given, **named),
    )
    trained("cnn", {"train.cache_gib": 3.0})
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    trained("cnn", {"train.cache_gib": 3.0})
    assert cache_sizes == [3.0, 1.0]


def test_interrupt_message_names_what_is_kept(caplog, monkeypatch):

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(console.log, "propagate", True)
    with pytest.raises(SystemExit) as end:
        run_stage(interrupted)
    assert end.value.code == 130
    assert "trainings resume after their last saved epoch" in caplog.text
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    assert "after every epoch of every trainer" in text


def test_model_records_its_data_source(trained, tmp_path):
    (tmp_path / "dataset.json").write_text('{"source": "synthetic"}')
    _, _, context = trained("cnn_vggish", {}, "--dataset", tmp_path / "dataset.json")[0]
    assert context.metadata["data_source"] == "synthetic"
    _, _, context = trained("cnn_vggish", {})[0]
    assert "data_source" not in context.metadata


def test_bfloat16_is_refused_on_a_cpu_that_emulates_it(trained, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    with pytest.raises(UserError, match=r"train\.precision is 'bfloat16'"):
        trained("cnn", {"train.precision": "bfloat16", "compute.device": "cpu"})
    assert len(trained("cnn", {"train.precision": "float32", "compute.device": "cpu"})) == 1
