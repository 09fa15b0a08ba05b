"""The whole pipeline on a tiny city, run by DVC in a clone."""

import json
import shutil
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from check_repro import first_difference, outputs
from conftest import ROOT
from project import Project, ran
from ruamel.yaml import YAML

from ust.tagging.locate import find_model
from ust.tagging.tagger import Tagger

FEATURES = ("weights@vggish", "weights@efficientat", "extract@logmel", "embed@vggish")
LABELS = ("aggregate_labels@majority", "aggregate_labels@any")
EXTRACTION = ("download", "augment", *FEATURES, *LABELS)
NETWORKS = ("cnn", "cnn_vggish", "cnn_vggish_29", "cnn_vggish_8", "hierarchical", "hierarchical_negatives")
LAST = ("label_quality", "describe", "table", "submit", "page")
BASELINES = ("baseline_fine", "baseline_coarse")
SCORED = ("cnn", "cnn_vggish_coarse", "cnn_vggish_fine", *NETWORKS[2:], *BASELINES)


def test_first_repro_runs_every_stage_and_second_runs_none(project):
    trained = [f"train@{name}" for name in NETWORKS[:4] + BASELINES]
    trained += [f"train_hierarchy@{name}" for name in NETWORKS[4:]]
    scored = [f"{stage}@{name}" for stage in ("predict", "evaluate") for name in SCORED]
    assert ran(project.first_output) == {*EXTRACTION, *trained, *scored, *LAST}
    assert "up to date" in project.dvc("repro")
    assert project.run("git", "status", "--porcelain") == ""


def test_metrics_record_data_source_and_weights(project):
    for level in ("coarse", "fine"):
        metrics = project.metrics(f"cnn_vggish_{level}")
        details = project.details(f"cnn_vggish_{level}")
        assert details["provenance"]["data_source"] == "synthetic"
        assert details["provenance"]["vggish_weights"] == "random"
        assert details["provenance"]["clips"] == 6
        assert set(metrics) == {"fine", "coarse"}
        for scored, figures in metrics.items():
            assert set(figures) == {"micro_auprc", "micro_f1", "macro_auprc"}
            assert 0 <= figures["micro_auprc"] <= 1
            assert len(details[scored]["class_auprc"]) == 8
        assert len(details["labels"]) == 37
        assert {path.stem for path in (project.path / f"metrics/curves/cnn_vggish_{level}").iterdir()} > {
            "fine"
        }
    assert "the VGGish weights are random" in project.first_output


def test_dvc_shows_dag_metrics_and_plots(project):
    assert "train" in project.dvc("dag")
    assert "metrics/cnn_vggish_fine.json" in project.dvc("metrics", "show")
    project.dvc("plots", "show", "--out", "plots")
    page = (project.path / "plots" / "index.html").read_text()
    for title in ("Training loss", "Learning rate", "Coarse precision-recall", "Fine AUPRC by category"):
        assert title in page
    shutil.rmtree(project.path / "plots")


def test_table_marks_unconverged_systems_and_submission_is_its_checkpoint(project):
    table = (project.path / "metrics/table.md").read_text()
    # After so few epochs no network has converged.
    assert all(f"| {name} † |" in table for name in SCORED)
    output = project.path / "data/submission/Lastname_LAB_task5_1.output.csv"
    assert output.read_text() == (project.path / "data/predictions/cnn_vggish_coarse.csv").read_text()
    assert (
        project.metrics("submission")["coarse"]["micro_auprc"] == project.metrics()["coarse"]["micro_auprc"]
    )


def test_first_difference_names_the_changed_output(project, tmp_path):
    def with_lock(name, change):
        lock = (project.path / "dvc.lock").read_text()
        (tmp_path / name).mkdir()
        (tmp_path / name / "dvc.lock").write_text(change(lock))
        return Project(tmp_path / name)

    labels = outputs(project)["data/labels/majority.csv of the stage aggregate_labels@majority"]
    same = with_lock("same", lambda lock: lock)
    other = with_lock("other", lambda lock: lock.replace(labels, "0" * 32))
    assert first_difference(project, same) is None
    assert (
        first_difference(project, other) == "data/labels/majority.csv of the stage aggregate_labels@majority"
    )


def predictions(project, system):
    return pd.read_csv(project.path / f"data/predictions/{system}.csv", index_col="audio_filename")


def test_tag_stage_matches_predict_stage(project, tmp_path):
    words = ("--system", "cnn_vggish_fine", "--format", "csv", "--out", tmp_path / "tags.csv")
    project.stage("tag", "data/raw/audio/validate", *words)
    tags = pd.read_csv(tmp_path / "tags.csv", index_col="audio_filename")
    pd.testing.assert_frame_equal(tags, predictions(project, "cnn_vggish_fine"), atol=2e-4)


@pytest.mark.parametrize("system", ["cnn_vggish_coarse", "hierarchical", "baseline_fine", "cnn"])
def test_tagger_matches_predict_stage(project, system):
    rows = YAML(typ="safe").load(project.path / "params.yaml")["checkpoints"]
    names = {name: row["model"] for name, row in rows.items()}
    tagger = Tagger.load(find_model(project.path / "models", system, names))
    wanted = predictions(project, system)[list(tagger.taxonomy.labels)]
    for name in wanted.index:
        samples, rate = sf.read(project.path / "data/raw/audio/validate" / name, dtype="float32")
        np.testing.assert_allclose(tagger.predict(samples, rate), wanted.loc[name], atol=2e-4)


def test_tag_stage_prints_tags_and_names_bad_recordings(project, tmp_path):
    (clip, *_) = sorted((project.path / "data/raw/audio/validate").iterdir())
    output = project.stage("tag", clip)
    assert f"{clip.name}  0:10.0" in output
    assert "human-voice" in output
    tag = ("tag", "--system", "cnn", clip)
    project.stage(*tag, "--format", "audacity", "--threshold", "0", "--out", tmp_path / "labels")
    assert len((tmp_path / "labels" / f"{clip.name}.txt").read_text().splitlines()) == 37
    assert "no trained system 'forest'" in project.stage("tag", clip, "--system", "forest", code=1)
    (tmp_path / "bad.wav").write_text("no sound")
    output = project.stage(*tag, tmp_path / "bad.wav", "--format", "json", "-q", code=1)
    assert "1 of 2 recordings cannot be tagged" in output
    (found,), _ = json.JSONDecoder().raw_decode(output)
    assert found["audio_filename"] == clip.name


def test_page_contains_every_system(project):
    page = (project.path / "metrics/page.html").read_text("utf-8")
    assert len(page) < 25e6
    for name in SCORED:
        assert f'<th scope="row">{name}</th>' in page
    assert "audio/mpeg" in page


RAW = ("data/raw/annotations.csv", "data/raw/dcase-ust-taxonomy.yaml")


def test_evaluate_stage_scores_any_predictions(project, tmp_path):
    predictions = "data/predictions/cnn_vggish_fine.csv"
    output = project.stage("evaluate", predictions, *RAW, tmp_path / "m.json", "--split", "validate")
    assert "micro AUPRC" in output
    mine = json.loads((tmp_path / "m.json").read_text())
    assert mine["fine"] == project.metrics("cnn_vggish_fine")["fine"]


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "stages").glob("[a-z]*.py"))])
def test_every_stage_has_help(monkeypatch, capsys, name):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        import_module(f"stages.{name}").main()
    assert end.value.code == 0
    assert f"usage: python -m stages.{name} " in capsys.readouterr().out
