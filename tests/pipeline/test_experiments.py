"""DVC experiments: stages that rerun, comparisons, and invalid parameters."""

import json

import pytest
from project import change_params, ran
from test_pipeline import BASELINES, EXTRACTION, NETWORKS


def test_changed_system_reruns_only_that_system(project):
    output = project.dvc("exp", "run", "-n", "slower", "-S", "systems.cnn.lr=0.001")
    assert ran(output) == {"train@cnn", "predict@cnn", "evaluate@cnn", "table", "page"}
    assert "systems.cnn.lr" in project.dvc("params", "diff", "HEAD", "slower")
    difference = json.loads(project.dvc("metrics", "diff", "--json", "HEAD", "slower"))
    assert list(difference) == ["metrics/cnn.json"]
    table = project.run("bash", "-c", "dvc exp show --json | python -m stages.experiments")
    _, experiment = table.split("slower:  systems.cnn.lr=0.001\n")
    assert [line.split()[0] for line in experiment.splitlines()] == ["cnn"]
    project.run("git", "checkout", "-q", ".")
    project.dvc("checkout")


def test_changed_trainer_reruns_its_systems_but_not_extraction(project):
    params = project.path / "params.yaml"
    change_params(params, params, {"train.lr": 0.001})
    changed = project.dvc("status")
    assert all(f"train@{name}:" in changed for name in NETWORKS[:4])
    assert not any(f"train@{name}:" in changed for name in BASELINES)
    assert not any(f"{name}:" in changed for name in EXTRACTION)
    project.run("git", "checkout", "-q", ".")


def test_submissions_as_experiments_rerun_only_the_packaging(project):
    output = project.dvc("exp", "run", "-n", "submission-2", "-S", "submission=hierarchical")
    assert ran(output) == {"submit"}
    difference = json.loads(project.dvc("metrics", "diff", "--json", "HEAD", "submission-2"))
    assert list(difference) == ["metrics/submission.json"]
    project.run("git", "checkout", "-q", ".")


@pytest.mark.slow
def test_queued_experiment_runs_on_local_data(project):
    """It runs in a copy of the tracked files, so the path of the data is absolute."""
    city = project.path.parent / "city"
    project.stage("download", city)
    (city / "dataset.json").unlink()
    change = ("-S", "data.source=local", "-S", f"data.path={city}")
    project.dvc("exp", "run", "--queue", "-n", "queued", *change, "evaluate@baseline_fine")
    project.dvc("queue", "start")
    status = ""
    for _ in range(300):
        status = project.dvc("queue", "status")
        if "Success" in status or "Failed" in status:
            break
        project.run("sleep", "1")
    assert "Success" in status, project.dvc("queue", "logs", "queued")
    (reference,) = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/queued").split()
    found = json.loads(project.run("git", "show", f"{reference}:metrics/details/baseline_fine.json"))
    assert found["provenance"]["data_source"] == "local"
    # The same clips in another folder give the same metrics.
    assert found["fine"] == project.details("baseline_fine")["fine"]
    project.dvc("queue", "stop")


def test_invalid_parameter_stops_before_any_work(project):
    before = project.metrics()
    output = project.run("dvc", "exp", "run", "-S", "train.lr=-1", code=255)
    assert "train.lr: is -1, should be greater than 0" in output
    assert "to take it back: git restore params.yaml" in output
    assert "Traceback" not in output
    assert not ran(output) & set(EXTRACTION)
    project.run("git", "checkout", "-q", ".")
    assert project.metrics() == before


@pytest.mark.slow
def test_report_preset_trains_one_epoch(project):
    project.stage("preset", "report", "train.max_epochs=1")
    output = project.dvc("exp", "run", "-n", "report", "evaluate@cnn_vggish_coarse")
    assert "data/augmented: 90 variants of 10 train clips" in output
    assert "models/cnn_vggish: trained on 100 rows" in output
    description = json.loads((project.path / "models/cnn_vggish/coarse/model.json").read_text())
    assert description["config"]["fusion"] == "bilinear"
    assert description["config"]["vggish_scale"] == "raw"
    assert description["metadata"]["parameters"] > 168_000_000
    assert "train.max_epochs" in project.dvc("params", "diff", "HEAD", "report")
    project.run("git", "checkout", "-q", ".")
    project.dvc("checkout")


@pytest.mark.slow
def test_pretrained_preset_trains_heads(project):
    """With random weights; only the new features and systems are computed."""
    budget = ("efficientat.weights=random", "train_head.max_epochs=2", "train_head.folds=2",
              "relabel.votes_audio.folds=2", "train_finetune.max_epochs=1",
              "train_finetune.head_epochs=2")  # fmt: skip
    names = ("linear_mn", "windows_mn", "attention_mn", "finetune_mn")
    both = ("ensembles.both={first: linear_mn, second: attention_mn, labels: votes_audio}",
            "checkpoints.both={model: both}")  # fmt: skip
    project.stage("preset", "pretrained", *budget, *both)
    targets = [f"evaluate@{name}" for name in (*names, "both")]
    output = project.dvc("exp", "run", "-n", "heads", *targets)
    extracted = {
        "weights@efficientat",
        "extract@mn_logmel",
        "embed@mn",
        "embed@mn_frames",
        "embed@mn_windows",
    }
    systems = {f"{stage}@{name}" for stage in ("train", "predict", "evaluate") for name in names}
    systems = systems - {"train@finetune_mn"} | {"train_pretrained@finetune_mn"}
    systems |= {"ensemble@both", "predict@both", "evaluate@both"}
    assert ran(output) == {"relabel@votes_audio"} | extracted | systems
    assert project.details("both")["provenance"]["architecture"].startswith("average of ")
    assert project.details("linear_mn")["provenance"]["mn_weights"] == "random"
    assert "linear_mn weight decay 10, out of fold" in output
    project.run("git", "checkout", "-q", ".")
    project.run("git", "clean", "-qfd", "metrics")
    project.dvc("checkout")
