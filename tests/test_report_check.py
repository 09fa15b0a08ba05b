"""`make check-sonyc`: the comparison with the published figures."""

import os
import subprocess
import sys

import pytest
from check_sonyc import compare
from conftest import ROOT
from project import TINY

from ust.scores.tables import COLUMNS, REPORT


def published():
    """Metrics as the stage evaluate writes them, of the report's own figures."""
    found = {system: {"fine": {}, "coarse": {}} for system in REPORT}
    for system, (_, values) in REPORT.items():
        for name, value in zip(COLUMNS, values, strict=True):
            level, figure = name.split("_", 1)
            found[system][level][figure] = value
    return found


def test_its_own_figures_are_reproduced_and_others_are_not():
    metrics = published()
    rows = list(compare(metrics))
    assert len(rows) == 4 * 4 + 2  # of four systems both levels, of one the coarse one alone
    assert all(same for *_, same in rows)
    metrics["baseline_fine"]["fine"]["micro_auprc"] -= 0.02
    metrics["hierarchical"]["coarse"]["macro_auprc"] += 0.009
    wrong = [(system, figure) for system, figure, *_, same in compare(metrics) if not same]
    assert wrong == [("baseline_fine", "fine_micro_auprc")]


@pytest.mark.slow
def test_it_runs_and_goes_on(tmp_path):
    changes = TINY | {
        "vggish.weights": "random", "model.fusion": "concat", "model.vggish_scale": "null",
        "augment.noise.copies": 1, "augment.pitch_shift.enabled": "false", "augment.volume.enabled": "false",
        "train_hierarchical.max_epochs": 1,
    }  # fmt: skip
    settings = [word for name, value in changes.items() for word in ("-S", f"{name}={value}")]
    command = [sys.executable, ROOT / "tests" / "check_sonyc.py", "--folder", tmp_path / "clone", *settings]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run():
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    first, second = run(), run()
    for done in (first, second):
        assert done.returncode == 1
        assert done.stdout.count("not reproduced") >= 10
        assert "are not within 0.01" in done.stderr
    assert "Running stage" in first.stdout
    assert "Running stage" not in second.stdout
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    command[3] = tmp_path / "other"
    assert "is not empty" in run().stderr
