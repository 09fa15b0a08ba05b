"""The leaderboard: metrics, rows for each seed, the workspace, and a run on a tiny city."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from project import TINY, clone, ran

from stages import from_project, leaderboard, preset, run_stage
from ust.cli.parameters import check_params, check_params_content
from ust.evaluation.evaluation import Evaluation
from ust.reports.leaderboard import Entry, leaderboard_markdown, leaderboard_rows, recommend_system
from ust.training.registry import section_names
from ust.util.documents import read_json
from ust.util.errors import UserError

COST = {"train_minutes": 1.0, "ms_per_clip": 20.0, "parameters": 10, "megabytes": 0.1}


@pytest.fixture(scope="module")
def entries(taxonomy):
    """Evaluations of a good system, of the same with a longer training, of noise, and of a coarse system."""
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


def test_leaderboard_has_means_ranges_and_paired_intervals(entries):
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
    assert "of the systems that are not significantly worse, none trains faster" in text  # slow is not
    faster = [row | {"train_minutes": 0.5} if row["system"] == "slow" else row for row in rows]
    assert "slow is not significantly worse and trains in 0.5 min" in recommend_system(faster)
    table = leaderboard_markdown(rows, "noise")
    assert len(table.splitlines()) == 2 + len(rows)
    assert {line.count("|") for line in table.splitlines()} == {11}


PRESETS = ["pretrained", "leaderboard"]
PAIR = "ensembles.{}={{first: {}, second: {}, labels: majority}}"


def parameters(*changes):
    """Return the parameters of a leaderboard."""
    _, params = preset.apply_changes(ROOT / "params.yaml", ROOT / "presets", [*PRESETS, *changes])
    check_params_content(Path("params.yaml"), params)
    return params


def test_each_system_has_a_row_per_seed_that_differs_in_the_seed():
    params = parameters("leaderboard.seeds=[5,6]")
    repeated = leaderboard.repeat_over_seeds(params)
    check_params_content(Path("params.yaml"), repeated)
    systems = params["leaderboard"]["systems"]
    assert repeated["checkpoints"].keys() == {f"{name}-{seed}" for name in systems for seed in (5, 6)}
    assert repeated["checkpoints"]["cnn_vggish_coarse-6"] == {"model": "cnn_vggish-6/coarse"}
    assert repeated["ensembles"]["ensemble_mn-5"] == {
        "first": "finetune_mn-5", "second": "windows_mn-5", "labels": "votes_audio"
    }  # fmt: skip
    assert "cnn-5" not in repeated["systems"]  # a row of params.yaml that the leaderboard does not compare
    rows = params["systems"] | params["pretrained"]
    for name, row in (repeated["systems"] | repeated["pretrained"]).items():
        system, _, seed = name.rpartition("-")
        expected = rows[system] | ({} if system == "audioset" else {"seed": int(seed)})
        assert row == expected
    unchanged = params.keys() - {
        "leaderboard",
        "submission",
        "systems",
        "hierarchies",
        "pretrained",
        "ensembles",
        "checkpoints",
    }
    assert all(repeated[name] == params[name] for name in unchanged)


def test_seed_is_set_in_sections_without_one():
    params = parameters("leaderboard.seeds=[5]")
    del params["train"]["seed"]
    assert leaderboard.repeat_over_seeds(params)["systems"]["cnn_mn-5"]["seed"] == 5


def test_ensemble_members_and_hierarchy_roots_are_repeated():
    changes = [PAIR.format("two", "mlp_mn", "linear_mn"), PAIR.format("three", "two", "windows_mn"),
               "checkpoints.three={model: three}", "leaderboard.against=three"]  # fmt: skip
    repeated = leaderboard.repeat_over_seeds(
        parameters(*changes, "leaderboard.seeds=[7]", "leaderboard.systems=[three, hierarchical]")
    )
    check_params_content(Path("params.yaml"), repeated)
    assert list(repeated["ensembles"]) == [
        "two-7",
        "three-7",
    ]  # members first, as ensembles refer to rows above
    assert repeated["hierarchies"]["hierarchical-7"]["flat"] == "cnn_vggish-7/coarse"
    assert repeated["hierarchies"]["hierarchical-7"]["seed"] == 7
    assert repeated["systems"].keys() == {f"{name}_mn-7" for name in ("mlp", "linear", "windows")} | {
        "cnn_vggish-7"
    }
    stages = leaderboard.training_stages(repeated, "three-7")
    trained = {f"train@{name}_mn-7" for name in ("mlp", "linear", "windows")}
    assert stages == trained | {"ensemble@two-7", "ensemble@three-7"}
    assert leaderboard.training_stages(repeated, "hierarchical-7") == {
        "train_hierarchy@hierarchical-7", "train@cnn_vggish-7"
    }  # fmt: skip


def test_unknown_root_is_named():
    params = parameters("leaderboard.systems=[cnn_vggish_coarse, hierarchical]",
                        "hierarchies.hierarchical.flat=forest/coarse")  # fmt: skip
    with pytest.raises(UserError, match="'forest/coarse' should begin with a row of systems, hierarchies"):
        leaderboard.repeat_over_seeds(params)


@pytest.fixture
def linked(tmp_path, monkeypatch):
    """A working folder with links to the project's files."""
    for name in ("dvc.yaml", ".dvcignore", "stages", "ust", "presets", "params.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_workspace_pipeline_reruns_trainings_of_a_changed_section(linked):
    """The case of `make leaderboard SET=train_finetune.max_epochs=30` after a run."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    work = leaderboard.WORKSPACE

    def trainings(*changes):
        """Return the parameter dependency of each training."""
        leaderboard.prepare_workspace(work, leaderboard.repeat_over_seeds(parameters(*changes)))
        with Repo(str(work)) as repo:
            stages = [
                stage for stage in repo.index.stages if stage.name.startswith(("train@", "train_pretr"))
            ]
        return {
            stage.name.split("@")[1]: dependency
            for stage in stages
            for dependency in stage.deps
            if isinstance(dependency, ParamsDependency)
        }

    before = trainings()
    for dependency in before.values():
        dependency.save()
    params = parameters()
    rows = params["systems"] | params["pretrained"]
    trainers = {name: rows[name.rpartition("-")[0]]["trainer"] for name in before}
    board = params["leaderboard"]
    models = {params["checkpoints"][name]["model"].split("/")[0] for name in board["systems"]} - {
        "ensemble_mn"
    }
    assert before.keys() == {f"{model}-{seed}" for model in models for seed in board["seeds"]}
    sections = set(trainers.values()) - {"untrained"}
    assert {"train", "train_baseline", "train_head", "train_finetune", "train_augmented"} == sections
    for section in sections:
        trainings(f"{section}.max_epochs=77")
        stale = {name for name, dependency in before.items() if dependency.status()}
        assert stale == {name for name in before if section in section_names(trainers[name])}
    trainings("leaderboard.seeds=[2019,1,2,3]")
    assert not any(dependency.status() for dependency in before.values())


def test_workspace_paths_are_relative_to_the_project(linked, monkeypatch):
    leaderboard.prepare_workspace(leaderboard.WORKSPACE, parameters("data.path=../city"))
    monkeypatch.chdir(leaderboard.WORKSPACE)
    assert from_project("../weights.pt") == linked.parent / "weights.pt"  # such as efficientat.checkpoint
    path = check_params(Path("params.yaml"))["data"]["path"]  # DVC and the stage download read it
    assert Path(path) == from_project(path) == linked.parent / "city"


@pytest.mark.parametrize("stage", ["train@cnn-1", "../dvc.yaml:train@cnn-1"])
def test_stage_duration_is_saved_outside_its_outputs(linked, monkeypatch, stage):
    monkeypatch.setenv("DVC_STAGE", stage)
    monkeypatch.setenv("DVC_ROOT", str(linked))
    with pytest.raises(SystemExit) as done:
        run_stage(lambda: None)
    assert done.value.code == 0
    saved = read_json(linked / ".dvc" / "tmp" / "durations" / "train@cnn-1.json", made_by="train")
    assert 0 <= saved["seconds"] < 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "leaderboard.systems=[forest]",
            r"leaderboard\.systems: has 'forest', should have rows of checkpoints: cnn,",
        ),
        (
            "leaderboard.systems=[mlp_mn]",
            r"leaderboard\.against: is 'cnn_vggish_coarse', should be one of .*: mlp_mn",
        ),
        ("leaderboard.seeds=[]", r"leaderboard\.seeds: "),
        ("data.source", r"data\.source: should be NAME\.OF\.PARAMETER=VALUE or a preset"),
    ],
)
def test_invalid_change_writes_no_workspace(linked, change, message):
    with pytest.raises(UserError, match=message):
        leaderboard.main([change])
    assert not leaderboard.WORKSPACE.exists()


def test_failed_pipeline_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), 255))
    with pytest.raises(
        UserError, match="dvc repro has failed with exit code 255; run the same command again"
    ):
        leaderboard.run_pipeline(tmp_path)


def test_leaderboard_runs_on_a_tiny_city(tmp_path):
    """Compares a head with its ensemble; a second run trains nothing."""
    project = clone(tmp_path / "project", TINY)
    changes = ["efficientat.weights=random", "leaderboard.seeds=[1]", "leaderboard.timed_clips=2",
               "leaderboard.bootstrap=10",
               "leaderboard.systems=[mlp_mn, ensemble_mn]", "leaderboard.against=mlp_mn",
               "ensembles.ensemble_mn.first=linear_mn", "ensembles.ensemble_mn.second=mlp_mn",
               "relabel.votes_audio.folds=2", "train_head.folds=2", "train_head.max_epochs=2"]  # fmt: skip
    command = ("python", "-m", "stages.leaderboard", *changes)
    output = project.run(*command)
    assert {"train@mlp_mn-1", "train@linear_mn-1", "ensemble@ensemble_mn-1"} <= ran(output)
    assert not any("vggish" in stage or "logmel" in stage for stage in ran(output))
    results = json.loads((project.path / "leaderboard/board/results.json").read_text())
    rows = {row["system"]: row for row in results}
    assert rows.keys() == {"mlp_mn", "ensemble_mn"}
    assert all(row["seeds"] == 1 and row["ms_per_clip"] > 0 and row["train_minutes"] > 0 for row in results)
    assert rows["ensemble_mn"]["train_minutes"] > rows["mlp_mn"]["train_minutes"]
    assert rows["ensemble_mn"]["parameters"] > rows["mlp_mn"]["parameters"]
    assert (project.path / "leaderboard/board/cost.png").stat().st_size > 5000
    assert "Take " in (project.path / "leaderboard/board/table.md").read_text()
    assert not ran(project.run(*command, "leaderboard.bootstrap=20"))
    assert not project.run("git", "status", "--short")
