"""`make check-sonyc`: comparison with the published figures, and runs on tiny local records."""

import os
import subprocess
import sys

import pytest
from check_sonyc import compare
from conftest import ROOT
from project import TINY, clone, settings
from records import md5, serve_records

from ust.datasets.sonyc import RELEASES
from ust.datasets.synthetic.city import build_city
from ust.reports.tables import COLUMNS, REPORT, REPORT_DATA


def published(**provenance):
    """Return detailed metrics with the report's own figures, as the stage evaluate writes them."""
    found = {system: {"fine": {}, "coarse": {}, "provenance": REPORT_DATA | provenance} for system in REPORT}
    for system, (_, values) in REPORT.items():
        for name, value in zip(COLUMNS, values, strict=True):
            level, figure = name.split("_", 1)
            found[system][level][figure] = value
    return found


def test_reported_figures_are_reproduced_and_others_are_not():
    metrics = published()
    rows = list(compare(metrics))
    assert len(rows) == 4 * 4 + 2  # of four systems both levels, of one the coarse one alone
    assert {verdict for *_, verdict in rows} == {"reproduced"}
    metrics["baseline_fine"]["fine"]["micro_auprc"] -= 0.02
    metrics["hierarchical"]["coarse"]["macro_auprc"] += 0.009
    wrong = [(system, figure) for system, figure, *_, verdict in compare(metrics) if verdict != "reproduced"]
    assert wrong == [("baseline_fine", "fine_micro_auprc")]


@pytest.mark.parametrize("other", [{"data_release": "1.0"}, {"coarse": "from_fine"}, {"split": "test"}])
def test_figures_of_other_data_are_not_compared(other):
    assert {verdict for *_, verdict in compare(published(**other))} == {"not compared"}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.1", "0.2", "1.0"])
def test_check_runs_on_each_record_and_resumes(tmp_path, server, version):
    """The complete command, with a local server instead of Zenodo."""
    build_city(tmp_path / "city", seed=1, clips={"train": 10, "validate": 8})
    files = serve_records(server, tmp_path / "city", tests=2)["0.1"]
    changes = TINY | {
        "data.source": "sonyc-ust-v1", "data.release": version, "data.coarse": "as_given",
        "augment.noise.copies": 1,
    }  # fmt: skip
    project = clone(tmp_path / "clone", changes)
    # The known checksums of 0.1 are those of the real files.
    source = project.path / "ust" / "datasets" / "sonyc.py"
    text = source.read_text("utf-8")
    for name, known in RELEASES["sonyc-ust-v1"]["0.1"].md5.items():
        head, tail = text.split('"2.3": Release')
        text = head.replace(known, md5(files[name])) + '"2.3": Release' + tail
    source.write_text(text, "utf-8")
    command = [sys.executable, ROOT / "tests" / "check_sonyc.py", "--folder", project.path]
    environment = os.environ | {
        "PYTHONPATH": str(project.path), "UST_ZENODO": server.url, "UST_CACHE": str(tmp_path / "cache")
    }  # fmt: skip

    def run():
        words = [*command, "--systems", "baseline_coarse", "baseline_fine"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    first, second = run(), run()
    for done in (first, second):
        assert done.returncode == 1, done.stdout + done.stderr
        if version == "0.1":
            assert done.stdout.count("not reproduced") >= 4
            assert "are not within 0.01" in done.stderr
        else:
            assert done.stdout.count("not compared") == 6
            assert f"these are of data_source sonyc-ust-v1, data_release {version}" in done.stderr
    assert "Running stage" in first.stdout
    assert "Running stage" not in second.stdout
    provenance = project.details("baseline_fine")["provenance"]
    assert (provenance["data_release"], provenance["coarse"], provenance["clips"]) == (version, "as_given", 6)


@pytest.mark.slow
def test_check_refuses_a_nonempty_folder(tmp_path):
    (tmp_path / "file").touch()
    command = [sys.executable, ROOT / "tests" / "check_sonyc.py", "--folder", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "is not empty" in done.stderr


def test_check_uses_the_release_of_the_report():
    from check_sonyc import REAL

    assert settings(REAL) == {
        "data.source": "sonyc-ust-v1", "data.release": 0.1, "data.coarse": "as_given",
        "vggish.weights": "audioset",
    }  # fmt: skip
