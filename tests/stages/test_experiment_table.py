"""The table of experiments from the JSON of `dvc exp show`."""

import io
import json

import pytest

from stages import experiments
from ust.util.errors import UserError

LEVEL = {"micro_auprc": 0.5, "micro_f1": 0.25, "macro_auprc": 0.125}
PARAMS = {"train": {"lr": 0.01, "decay": [1, 2]}, "submission": "cnn"}
METRICS = {
    "cnn": {"fine": LEVEL, "coarse": LEVEL},
    "cnn_8": {"coarse": LEVEL},
    "submission": {"coarse": LEVEL},
}


def data(params=PARAMS, metrics=METRICS):
    """Return the content of a commit or an experiment."""
    return {
        "params": {"params.yaml": {"data": params}},
        "metrics": {f"metrics/{name}.json": {"data": found} for name, found in metrics.items()},
        "deps": {"ust/util/files.py": {"hash": "1"}},
    }


def shown(*pairs):
    """Return DVC's JSON of a commit with experiments (name, revision)."""
    listed = [{"name": name, "revs": [revision]} for name, revision in pairs]
    commit = {"rev": "c" * 40, "name": "main", "data": data(), "experiments": listed}
    return [{"rev": "workspace", "data": data(), "experiments": None}, commit]


def test_table_shows_changed_parameters_and_systems():
    better = METRICS | {"cnn_8": {"coarse": LEVEL | {"micro_auprc": 0.75}}}
    params = {"train": {"lr": 0.1, "decay": [1, 2]}, "submission": "cnn", "vggish": {"seed": 1}}
    lines = experiments.experiment_lines(shown(("fast", {"rev": "a" * 40, "data": data(params, better)})))
    assert [line.split() for line in lines[3:]] == [
        ["main", "(commit)"],
        ["cnn_8", "–", "–", "–", "0.500", "0.250", "0.125"],
        [],
        ["fast:", "train.lr=0.1", "vggish.seed=1"],
        ["cnn_8", "–", "–", "–", "0.750", "0.250", "0.125"],
    ]


def test_table_shows_removed_parameters_and_failed_experiments():
    fewer = {name: value for name, value in PARAMS.items() if name != "submission"}
    pairs = [("short", {"rev": "a" * 40, "data": data(fewer)}), ("failed", {"rev": "b" * 40, "data": None})]
    lines = experiments.experiment_lines(shown(*pairs))
    assert lines[3:] == ["main (commit)", "", "short:  submission removed", "", "failed: no result"]


def test_table_of_nine_systems_fits_a_terminal():
    metrics = {f"hierarchical_negatives_{index}": METRICS["cnn"] for index in range(9)}
    changed = data(metrics={name: {"fine": LEVEL, "coarse": LEVEL | {"micro_f1": 1}} for name in metrics})
    content = shown(("all", {"rev": "a" * 40, "data": changed}))
    content[1]["data"] = data(metrics=metrics)
    lines = experiments.experiment_lines(content)
    assert max(map(len, lines)) <= 120
    assert sum("hierarchical_negatives" in line for line in lines) == 18


def test_commit_without_experiments_lists_all_systems():
    lines = experiments.experiment_lines(shown())
    assert [line.split()[0] for line in lines[4:]] == ["cnn", "cnn_8"]


def test_experiments_command_reads_standard_input(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["experiments"])
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(shown())))
    experiments.main()
    assert "main (commit)" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("no experiments"))
    with pytest.raises(UserError, match="should be the output of dvc exp show --json"):
        experiments.main()
