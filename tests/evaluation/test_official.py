"""Metrics of published predictions, coarse ground truth, and stable sorting."""

import ast
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from benchmarks.official import pairs
from ust.annotations.taxonomy import Taxonomy
from ust.cli.evaluate import main
from ust.evaluation.metrics import (
    area_under_curve,
    coarse_counts,
    compute_scores,
    micro_counts,
    precision_recall,
)
from ust.evaluation.predictions import write_predictions


@pytest.fixture(scope="module")
def published_predictions(sonyc_ust_v1):
    """Arguments of `pairs`: eight files of a DCASE 2020 entry, the ground truth and the taxonomy."""
    shared = sonyc_ust_v1.parent
    if not (shared / "sonyc-predictions").is_dir():
        pytest.skip("the published predictions are not here: ../shared/sonyc-predictions")
    truth = shared / "sonyc-truth" / "v2_validate_coarse.csv"
    return shared / "sonyc-predictions", truth, sonyc_ust_v1 / "dcase-ust-taxonomy.yaml"


def test_metrics_of_published_predictions_match_official_figures(published_predictions):
    found = list(pairs(*published_predictions))
    assert len(found) == 8
    for name, ours, official in found:
        assert ours.micro_f1 == official["micro_f1"], name
        assert ours.micro_auprc == pytest.approx(official["micro_auprc"], abs=1e-4), name
        # The official macro figures were made with NumPy before 1.25.
        assert 0.002 < ours.macro_auprc - official["macro_auprc"] < 0.009, name
        for category, value in official["class_auprc"].items():
            assert -0.001 < ours.class_auprc[category] - value < 0.053, (name, category)


def test_evaluate_command_matches_official_figures(published_predictions, tmp_path, monkeypatch):
    """Coarse ground truth, without a params.yaml."""
    monkeypatch.chdir(tmp_path)
    folder, truth, taxonomy = published_predictions
    words = (folder / "output0.csv", truth, taxonomy, "out.json", "--split", "validate")
    main(argv=[*map(str, words), "--details", "details.json"])
    metrics = json.loads((tmp_path / "out.json").read_text())
    details = json.loads((tmp_path / "details.json").read_text())
    official = json.loads((folder / "evaluation_output0.json").read_text())["coarse"]
    assert list(metrics) == ["coarse"]
    assert metrics["coarse"]["micro_f1"] == round(official["micro_f1"], 10)
    assert details["provenance"]["clips"] == 538


@pytest.fixture
def evaluate(tmp_path, taxonomy, taxonomy_file, monkeypatch, caplog):
    """A function that scores predictions by `ust evaluate`; it returns the metrics and the lines of the log.

    Its ground truth is a table of label columns for twenty clips; p.csv has random predictions of these.
    """
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "ust")
    clips = [f"{i:02d}.wav" for i in range(20)]
    write_predictions(Path("p.csv"), clips, np.random.default_rng(0).random((20, 37)), taxonomy)

    def run_evaluate(predictions, truth, *options):
        table = truth.rename(columns=lambda label: f"{label}_presence")
        keys = {"sensor_id": np.arange(20) % 3, "audio_filename": clips, "annotator_id": 0}
        table.assign(**keys).to_csv("truth.csv", index=False)
        caplog.clear()
        main(argv=[predictions, "truth.csv", str(taxonomy_file), "out.json", "--split", "test", *options])
        return json.loads(Path("out.json").read_text()), [record.getMessage() for record in caplog.records]

    return run_evaluate


def test_truth_without_fine_columns_gives_coarse_metrics(evaluate, taxonomy):
    coarse = list(taxonomy.coarse)
    truth = pd.DataFrame(np.random.default_rng(1).integers(0, 2, (20, 8)), columns=coarse)
    metrics, lines = evaluate("p.csv", truth, "--details", "d.json", "--curves", "curves")
    details = json.loads(Path("d.json").read_text())
    counts = coarse_counts(truth.to_numpy(), pd.read_csv("p.csv")[coarse].to_numpy(), taxonomy)
    wanted = compute_scores(counts, taxonomy.categories("coarse"))
    assert metrics["coarse"]["micro_auprc"] == pytest.approx(wanted.micro_auprc, abs=1e-9)
    for content in (metrics, details["ci95"]["clips"], details["prevalence"], details["lrap"]):
        assert "fine" not in content
    assert details["provenance"]["split"] == "test"
    assert details["provenance"]["coarse"] == "from_fine"
    assert set(details["labels"]) == set(coarse)
    assert not list(Path("curves").glob("fine*"))
    assert "the fine level is not scored: truth.csv has no fine columns" in lines


def test_predictions_without_fine_labels_give_coarse_metrics(evaluate, taxonomy):
    """Fine columns are missing, or zeros as the stage predict writes them."""
    fine = list(taxonomy.fine)
    truth = np.random.default_rng(1).integers(0, 2, (20, 37))
    truth = pd.DataFrame(truth, columns=list(taxonomy.labels))
    predicted = pd.read_csv("p.csv")
    predicted.assign(**dict.fromkeys(fine, 0.0)).to_csv("zeros.csv", index=False)
    predicted.drop(columns=fine).to_csv("none.csv", index=False)
    written = []
    for name in ("zeros.csv", "none.csv"):
        metrics, lines = evaluate(name, truth)
        written.append(metrics)
        assert f"the fine level is not scored: {name} has no fine probability above 0" in lines
        assert not any(line.startswith(("fine ", "warning")) for line in lines)
        assert any(
            line.startswith("coarse  micro AUPRC") and "(constant prediction: " in line for line in lines
        )
    assert written[0] == written[1]
    assert list(written[0]) == ["coarse"]


def test_equal_recalls_are_sorted_by_falling_threshold():
    """Of ten clips the two likeliest are positive, the third negative, the fourth positive."""
    truth = np.array([[1], [1], [0], [1], *[[0]] * 6])
    predicted = np.array([[0.9], [0.8], [0.7], [0.6], *[[0.005]] * 6])
    taxonomy = Taxonomy(("1_a",), (), ())
    found = compute_scores(coarse_counts(truth, predicted, taxonomy), ["a"])
    # No prediction reaches 1.0: precision 0 at recall 0, then (1/3, 1), (2/3, 1), (2/3, 2/3), (1, 3/4).
    by_hand = 1 / 3 * (0 + 1) / 2 + 1 / 3 + 1 / 3 * (2 / 3 + 3 / 4) / 2
    assert found.micro_auprc == pytest.approx(by_hand)
    assert found.class_auprc["a"] == pytest.approx(by_hand)


def test_auprc_is_independent_of_numpy_sort_algorithm(monkeypatch):
    """NumPy's sort is replaced by one that reverses the order of equal recalls unless it must be stable."""
    rng = np.random.default_rng(1)
    truth, predicted = rng.random((300, 3)) < 0.05, rng.random((300, 3))
    taxonomy = Taxonomy(("1_a", "2_b", "3_c"), (), ())
    counts = coarse_counts(truth.astype(int), predicted, taxonomy)
    wanted = compute_scores(counts, "abc")

    def adverse(values, kind=None):
        """Sort correctly, but reverse the order of equal values unless a stable sort is requested."""
        last = np.arange(len(values)) if kind == "stable" else -np.arange(len(values))
        return np.lexsort([last, values])

    monkeypatch.setattr(np, "argsort", adverse)
    assert compute_scores(counts, "abc") == wanted
    precision, recall = precision_recall(micro_counts(counts))
    assert area_under_curve(precision, recall) == wanted.micro_auprc


def test_every_sort_in_the_library_is_stable():
    wrong = []
    for path in [
        *(ROOT / "ust").rglob("*.py"),
        *(ROOT / "stages").glob("*.py"),
        ROOT / "tests" / "oracle.py",
    ]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                sorts = node.func.attr in ("argsort", "sort_values", "topk", "argpartition", "nlargest")
                if sorts and words.get("kind", words.get("stable")) not in ("'stable'", "True"):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []
