"""Submissions and the report's tables."""

import numpy as np
import pytest

from ust.evaluation.predictions import write_predictions
from ust.evaluation.submission import check_submission, submission_metadata
from ust.reports.tables import COLUMNS, REPORT, Row, format_cells, table_frame, table_markdown, table_row
from ust.util.documents import read_yaml, write_yaml
from ust.util.errors import UserError

LABEL = "Doe_LAB_task5_1"
OUTPUT = f"{LABEL}.output.csv"
LEVEL = {"micro_auprc": 0.5, "micro_f1": 0.25, "macro_auprc": 0.125, "class_auprc": {"engine": 0.75}}
METRICS = {
    "fine": LEVEL,
    "coarse": LEVEL,
    "provenance": {"split": "validate", "clips": 2, "architecture": "CNN", "parameters": 7},
}
CLIPS = ["a.wav", "b.wav"]


@pytest.fixture
def package(tmp_path, taxonomy):
    folder = tmp_path / "submission"
    folder.mkdir()
    write_predictions(folder / f"{LABEL}.output.csv", CLIPS, np.full((2, 37), 0.5), taxonomy)
    write_yaml(
        folder / f"{LABEL}.meta.yaml", submission_metadata(LABEL, "N", "cnn", [{"lastname": "Doe"}], METRICS)
    )
    return folder


def test_valid_submission_passes_the_check(package, taxonomy):
    check_submission(package, LABEL, CLIPS, taxonomy)
    stated = read_yaml(package / f"{LABEL}.meta.yaml")
    assert list(stated) == ["submission", "system", "results"]
    assert stated["system"]["complexity"]["total_parameters"] == 7
    assert stated["results"]["coarse"]["micro_auprc"] == 0.5


def test_the_time_and_place_that_a_system_uses_are_stated():
    metrics = METRICS | {"provenance": METRICS["provenance"] | {"spatiotemporal_context": "hour, borough"}}
    with_context, without = (submission_metadata(LABEL, "N", "cnn", [], each) for each in (metrics, METRICS))
    assert with_context["system"]["description"].pop("spatiotemporal_context") == "hour, borough"
    assert with_context == without


def rewrite(path, change):
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "notes.txt").touch(), "should hold"),
        (lambda f: (f / f"{LABEL}.meta.yaml").unlink(), "should hold"),
        (lambda f: rewrite(f / OUTPUT, lambda t: t.replace("8_dog", "8_cat")), "column 8_dog is missing"),
        (lambda f: rewrite(f / OUTPUT, lambda t: t.replace("b.wav", "c.wav")), "are missing: b.wav"),
        (lambda f: rewrite(f / OUTPUT, lambda t: t.replace("0.500000", "1.5", 1)), "1.5, should be"),
        (lambda f: rewrite(f / f"{LABEL}.meta.yaml", lambda t: t.replace("Doe_LAB", "Roe_LAB")), "Roe_LAB"),
        (
            lambda f: rewrite(f / OUTPUT, lambda t: t.replace("7_human-voice,8_dog", "8_dog,7_human-voice")),
            "another order",
        ),
    ],
)
def test_invalid_submission_names_the_problem(package, taxonomy, damage, message):
    damage(package)
    with pytest.raises(UserError) as error:
        check_submission(package, LABEL, CLIPS, taxonomy)
    assert message in str(error.value)


def test_marks_of_table_follow_from_reported_figures():
    """Italic and bold figures are those of the report's tables."""
    systems = [Row(*REPORT[name]) for name in ("cnn_vggish_coarse", "cnn_vggish_fine", "hierarchical")]
    baselines = [Row(*REPORT[name]) for name in ("baseline_fine", "baseline_coarse")]
    first, second, third = format_cells(systems, baselines)
    assert first == ["CNN+VGGish1", "0.646", "0.483", "*0.425*", "***0.787***", "*0.609*", "***0.579***"]
    assert second == ["CNN+VGGish2", "*0.656*", "0.398", "0.401", "**0.768**", "0.533", "**0.555**"]
    assert third == ["Hierarchical", "0.643", "*0.490*", "0.414", "***0.787***", "*0.609*", "***0.579***"]
    fine, coarse = format_cells(baselines, systems)
    assert fine == ["Fine-level", "***0.671***", "***0.502***", "***0.427***", "0.742", "0.507", "0.530"]
    assert coarse == ["Coarse-level", "–", "–", "–", "*0.762*", "***0.674***", "*0.542*"]


def test_table_rows_leave_out_an_unpredicted_level():
    assert table_row("cnn", METRICS).values == (0.5, 0.25, 0.125) * 2
    coarse = {name: value for name, value in METRICS.items() if name != "fine"}
    assert table_row("cnn_vggish_8", coarse).values == (None, None, None, 0.5, 0.25, 0.125)


def test_tables_are_written_as_markdown_and_json():
    systems, baselines = (
        [table_row("cnn", METRICS), table_row("hierarchical", METRICS)],
        [table_row("baseline_fine", METRICS)],
    )
    text = table_markdown(systems, baselines, "2 clips")
    assert text.index("Table 3") < text.index("| Hierarchical |") < text.index("Table 4")
    assert "| cnn | *0.500*" in text
    assert max(map(len, text.splitlines())) <= 120
    assert "not run here" in text
    table = table_frame(systems, baselines)
    assert list(table["system"]) == ["cnn", "hierarchical", "hierarchical", "baseline_fine", "baseline_fine"]
    assert list(table["source"]) == ["here", "here", "report", "here", "report"]
    assert table.loc[2, "coarse_micro_auprc"] == 0.787
    assert list(table.columns[3:]) == list(COLUMNS)


@pytest.mark.parametrize(("converged", "name"), [(True, "a"), (False, "a †"), (None, "a")])
def test_unconverged_system_is_marked(converged, name):
    level = dict.fromkeys(("micro_auprc", "micro_f1", "macro_auprc"), 0.5)
    provenance = {} if converged is None else {"converged": converged}
    found = table_row("a", {"fine": level, "coarse": level, "provenance": provenance})
    assert format_cells([found], [])[0][0] == name
    text = table_markdown([found], [], "2 clips")
    text = text.replace("\n", " ")
    assert "†: still improving in its last epoch" in text
    assert "differences below that variation" in text
