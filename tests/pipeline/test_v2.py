"""A data set in the layout of SONYC-UST v2: 48 kHz, clips without ground truth, time and place."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import RATE
from project import TINY, change_params, clone

from ust.features.context import COLUMNS
from ust.util.documents import read_yaml

SYSTEMS = ("cnn_vggish_8", "baseline_fine")
# Of eight clips with ground truth, three move to the test split, and three lose their ground truth.
TEST, UNVERIFIED = 3, {"validate": 2, "test": 1}
SCORED = {"validate": 3, "test": 2}


def write_v2(city, target):
    """Write a city in the layout of v2."""
    table = pd.read_csv(city / "annotations.csv")
    clips = sorted(set(table.loc[table["split"] == "validate", "audio_filename"]))
    table.loc[table["audio_filename"].isin(clips[:TEST]), "split"] = "test"
    lost = clips[: UNVERIFIED["test"]] + clips[TEST : TEST + UNVERIFIED["validate"]]
    table = table[~((table["annotator_id"] == 0) & table["audio_filename"].isin(lost))]
    (target / "audio").mkdir(parents=True)
    table.to_csv(target / "annotations.csv", index=False)
    (target / "dcase-ust-taxonomy.yaml").write_bytes((city / "dcase-ust-taxonomy.yaml").read_bytes())
    for path in city.glob("audio/*/*.wav"):
        samples, _ = sf.read(path)
        times = np.arange(10 * 48_000) / 48_000
        at_48_khz = np.interp(times, np.arange(len(samples)) / RATE, samples)
        sf.write(target / "audio" / path.name, at_48_khz, 48_000)
    return lost


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    """A clone in which `dvc repro` has run two systems, one with context, and its submission."""
    base = tmp_path_factory.mktemp("v2")
    local = {"data.source": "local", "data.path": "../city", "submission": "cnn_vggish_8"}
    context = {"systems.cnn_vggish_8.context": {"dropout": 0.3}}
    project = clone(base / "project", TINY | local | context | {"train_baseline.max_epochs": 2})
    change_params(
        project.path / "params.yaml", base / "city.yaml",
        {"data.source": "synthetic", "data.synthetic.validate": 8, "data.synthetic.context": True},
    )  # fmt: skip
    project.stage("download", base / "synthetic", "--params", base / "city.yaml")
    project.unverified = write_v2(base / "synthetic", base / "city")
    project.output = project.dvc("repro", *(f"evaluate@{name}" for name in SYSTEMS), "submit")
    return project


def test_only_verified_clips_have_labels(v2):
    for name in ("majority.csv", "any.csv"):
        labels = pd.read_csv(v2.path / "data" / "labels" / name)
        assert labels["split"].value_counts().to_dict() == {"train": 10, **SCORED}
        assert not set(labels["audio_filename"]) & set(v2.unverified)
    assert "10 train clips, 3 validate clips (verified, of 5)" in v2.output
    assert "2 test clips (verified, of 3)" in v2.output


def test_systems_are_scored_on_verified_clips(v2):
    assert v2.output.count("chosen on 3 clips") == 2
    assert v2.output.count("3 validate clips (2 more have not been verified)") == 2
    for name in SYSTEMS:
        assert v2.details(name)["provenance"]["clips"] == 3
        predicted = pd.read_csv(v2.path / f"data/predictions/{name}.csv")["audio_filename"]
        assert len(predicted) == 3
        assert not set(predicted) & set(v2.unverified)


def test_submission_contains_verified_clips(v2):
    assert "data/submission: cnn_vggish_8, 3 clips, checked" in v2.output
    output = pd.read_csv(v2.path / "data/submission/Lastname_LAB_task5_1.output.csv")
    assert len(output) == 3
    assert v2.metrics("submission") == v2.metrics("cnn_vggish_8")


def test_the_system_with_context_has_it_as_input(v2):
    description = json.loads((v2.path / "models/cnn_vggish_8/coarse/model.json").read_text())
    assert description["context"] == {"dropout": 0.3, "hidden_size": 32, "place_noise": 1.0}
    assert description["metadata"]["inputs"]["context"] == "context"
    metadata = read_yaml(v2.path / "data/submission/Lastname_LAB_task5_1.meta.yaml")
    columns = "week, day, hour, borough, latitude, longitude"
    assert metadata["system"]["description"]["spatiotemporal_context"] == columns
    assert "spatiotemporal_context" not in v2.details("baseline_fine")["provenance"]


def test_time_and_place_are_those_of_the_annotations(v2, tmp_path):
    """Without them it still predicts, otherwise; a wrong hour is named."""
    table = pd.read_csv(v2.path / "data/raw/annotations.csv")

    def predict(table, code=0):
        table.to_csv(tmp_path / "annotations.csv", index=False)
        words = (tmp_path / "annotations.csv", "data/raw/dcase-ust-taxonomy.yaml", tmp_path / "p.csv")
        return v2.stage("predict", "cnn_vggish_8", "models", "data/features", *words, code=code)

    mine = pd.read_csv(v2.path / "data/predictions/cnn_vggish_8.csv")
    predict(table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "p.csv"), mine)
    predict(table.drop(columns=list(COLUMNS)))
    assert not pd.read_csv(tmp_path / "p.csv").equals(mine)
    output = predict(table.assign(hour=25), code=1)
    assert "annotations.csv" in output
    assert "line 2: hour is '25', should be a whole number from 0 to 23" in output
    output = predict(table.drop(columns=["latitude", "longitude", "borough"]), code=1)
    assert "column(s) borough, latitude, longitude missing" in output


def test_unverified_predictions_are_ignored(v2, tmp_path):
    """Other programs predict every clip of the split."""
    mine = pd.read_csv(v2.path / "data/predictions/cnn_vggish_8.csv")
    names = [name for name in v2.unverified if name in validate_clips(v2)]
    rest = mine.iloc[:2].assign(audio_filename=names)
    pd.concat([mine, rest]).to_csv(tmp_path / "all.csv", index=False)
    raw = ("data/raw/annotations.csv", "data/raw/dcase-ust-taxonomy.yaml")
    v2.stage("evaluate", tmp_path / "all.csv", *raw, tmp_path / "m.json")
    both = (tmp_path / "all.csv", "data/predictions/cnn_vggish_8.csv")
    output = v2.stage("compare", *both, "--unit", "clips")
    assert "difference +0.0000 [+0.0000, +0.0000]" in output


def validate_clips(v2):
    table = pd.read_csv(v2.path / "data/raw/annotations.csv")
    return set(table.loc[table["split"] == "validate", "audio_filename"])


def test_test_split_is_scored_on_verified_clips(v2, tmp_path):
    change_params(v2.path / "params.yaml", tmp_path / "test.yaml", {"predict.split": "test"})
    raw = ("data/raw/annotations.csv", "data/raw/dcase-ust-taxonomy.yaml")
    v2.stage("predict", "cnn_vggish_8", "models", "data/features", *raw, tmp_path / "p.csv",
             "--params", tmp_path / "test.yaml")  # fmt: skip
    scored = (tmp_path / "p.csv", *raw, tmp_path / "m.json")
    output = v2.stage("evaluate", *scored, "--split", "test")
    assert "2 test clips (1 more have not been verified)" in output
