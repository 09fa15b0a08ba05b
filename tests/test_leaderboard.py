"""The leaderboard: its figures by hand, its settings, and its pipeline on a tiny city."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT
from project import TINY

from leaderboard import settings
from ust.evaluation.evaluation import Evaluation
from ust.reports.leaderboard import Entry, leaderboard_markdown, leaderboard_rows, recommend_system
from ust.util.documents import read_yaml
from ust.util.errors import UserError

COST = {"train_minutes": 1.0, "ms_per_clip": 20.0, "parameters": 10, "megabytes": 0.1}


@pytest.fixture(scope="module")
def entries(taxonomy):
    """A good system of two seeds, the same again but slow, noise, and one that knows coarse labels alone."""
    rng = np.random.default_rng(0)
    truth = {
        "coarse": (rng.random((60, 8)) < 0.3).astype(int),
        "fine": (rng.random((60, 29)) < 0.2).astype(int),
    }
    sensors = np.arange(60) % 5

    def system(signal, seed, levels=("fine", "coarse")):
        noise = np.random.default_rng(seed)
        predicted = {
            level: (signal * y + noise.random(y.shape)) * (level in levels) for level, y in truth.items()
        }
        return Evaluation(taxonomy, sensors, truth, predicted)

    good = [system(1.0, seed) for seed in (1, 2)]
    return {
        "noise": Entry([system(0.0, seed) for seed in (3, 4)], COST),
        "good": Entry(good, COST),
        "coarse": Entry([system(0.5, seed, ("coarse",)) for seed in (5, 6)], COST),
        "slow": Entry(good, COST | {"train_minutes": 9.0}),
    }


def test_means_ranges_and_paired_intervals(entries):
    rows = leaderboard_rows(entries, against="noise", bootstrap=40, seed=1)
    assert [row["system"] for row in rows] == ["good", "slow", "coarse", "noise"]
    good = rows[0]
    values = [e.headlines()["coarse.micro_auprc"] for e in entries["good"].evaluations]
    assert good["coarse_micro_auprc"] == pytest.approx(np.mean(values), abs=1e-6)
    assert good["coarse_micro_auprc_range"] == pytest.approx(sorted(values), abs=1e-6)
    assert good["against_noise"]["fine"][0] > 0
    assert good["against_best"] == {"coarse": [0, 0], "fine": [0, 0]}
    assert rows[3]["against_best"]["coarse"][1] < 0
    assert rows[2]["fine_micro_auprc"] is None
    assert set(rows[2]["against_noise"]) == {"coarse"}
    text = recommend_system(rows)
    assert text.startswith("Take good: coarse / fine micro AUPRC")
    assert "slow is not significantly worse" in text
    table = leaderboard_markdown(rows, "noise")
    assert len(table.splitlines()) == 2 + len(rows)
    assert {line.count("|") for line in table.splitlines()} == {11}


def test_another_value_in_a_recipe_makes_its_trainings_stale_and_no_others(tmp_path, monkeypatch):
    """As `make leaderboard SET=train_finetune.max_epochs=30` after a run, by DVC's own account."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    shutil.copy(ROOT / "leaderboard" / "dvc.yaml", tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    params = tmp_path / "params.yaml"

    def compete(*changes):
        """The parameters of each training, by its name."""
        settings.main(["--out", str(params), *changes])
        stages = [stage for stage in Repo(tmp_path).index.stages if stage.name.startswith("compete@")]
        found = {}
        for stage in stages:
            (dependency,) = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
            dependency.save()
            found[stage.name] = dependency
        return found

    Repo.init(tmp_path, no_scm=True)
    before = compete()
    content = read_yaml(params)
    recipes = {name: content["systems"][name]["recipe"] for name in content["leaderboard"]["systems"]}
    assert len(before) == len(recipes) * len(content["leaderboard"]["seeds"])
    sections = set(recipes.values())
    assert {"train", "train_baseline", "train_head", "train_finetune", "train_augmented"} == sections
    for recipe in sections:
        settings.main(["--out", str(params), f"{recipe}.max_epochs=77"])
        stale = {name for name, dependency in before.items() if dependency.status()}
        wanted = {system for system, of_system in recipes.items() if of_system == recipe}
        assert stale == {name for name in before if name.split("@")[1].rsplit("-", 1)[0] in wanted}


def test_a_system_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"leaderboard\.systems: 'forest' should be one of systems: cnn_vgg"):
        settings.main(["--out", str(tmp_path / "params.yaml"), "leaderboard.systems=[forest]"])


def test_a_pipeline_of_its_own_on_a_tiny_city(project, tmp_path):
    """Two systems with two seeds; a second run does nothing; what is asked of settings that are wrong."""
    place = project.path
    tiny = [f"{name}={value}" for name, value in TINY.items() if not name.startswith(("systems", "hier"))]
    others = ("logmel", "logmel64", "vggish", "mn_frames", "mn_windows", "mn_logmel")
    tiny += [f"features.{name}=null" for name in others]
    tiny += ["leaderboard.seeds=[1,2]", "leaderboard.timed_clips=2"]
    tiny += ["leaderboard.systems=[mlp_mn,linear_mn]", "leaderboard.against=mlp_mn"]
    tiny += [
        "leaderboard.bootstrap=10",
        "relabel.heard.folds=2",
        "train_head.folds=2",
        "train_head.max_epochs=2",
    ]
    kept = ("mlp_mn", "linear_mn")
    gone = (
        "cnn_vggish_coarse", "baseline_fine", "baseline_coarse", "attention_mn", "finetune_mn", "windows_mn",
        "cnn_mn", "kong_cnn9", "adapa_mobilenetv2",
    )  # fmt: skip
    tiny += [f"{table}.{name}=null" for table in ("systems", "checkpoints") for name in gone]
    tiny += ["submission=linear_mn", "ensembles.ensemble_mn.first=linear_mn"]
    tiny += ["ensembles.ensemble_mn.second=mlp_mn"]
    try:
        project.run("python", "-m", "leaderboard.settings", *tiny)
        project.environment = project.environment | {"PYTHONPATH": ".."}
        project.path = place / "leaderboard"
        output = project.run("dvc", "repro")
        assert "Running stage 'table'" in output
        rows = json.loads((project.path / "board/results.json").read_text())
        assert {row["system"] for row in rows} == {*kept, "ensemble_mn"}
        assert all(row["seeds"] == 2 and row["ms_per_clip"] > 0 for row in rows)
        minutes, weights = (
            {row["system"]: row[key] for row in rows} for key in ("train_minutes", "parameters")
        )
        assert minutes["ensemble_mn"] == pytest.approx(sum(minutes[name] for name in kept), abs=0.02)
        assert weights["ensemble_mn"] == sum(weights[name] for name in kept)
        assert (project.path / "board/cost.png").stat().st_size > 5000
        assert "up to date" in project.run("dvc", "repro")
    finally:
        project.path = place
        project.environment = {k: v for k, v in project.environment.items() if k != "PYTHONPATH"}
        for name in ("data", "models", "results", "board"):
            shutil.rmtree(place / "leaderboard" / name, ignore_errors=True)
        for name in ("params.yaml", "dvc.lock"):
            (place / "leaderboard" / name).unlink(missing_ok=True)
    message = project.run("python", "-m", "leaderboard.settings", "data.source", code=1)
    assert "data.source: should be NAME.OF.PARAMETER=VALUE" in message
    message = project.run("python", "-m", "leaderboard.settings", "leaderboard.seeds=[]", code=1)
    assert "leaderboard.seeds" in message
    assert not (place / "leaderboard" / "params.yaml").exists()
