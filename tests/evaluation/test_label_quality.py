"""Metrics of label rules, and the stage label_quality."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from project import Project, change_params
from sklearn.metrics import average_precision_score
from volunteers import POOLED, crowd

from ust.annotations.annotations import AS_GIVEN, FROM_FINE, read_annotations, select_ground_truth
from ust.annotations.rules.pooled import estimate_pooled
from ust.annotations.rules.votes import collect_votes
from ust.annotations.taxonomy import read_taxonomy
from ust.evaluation.label_quality import (
    annotator_table,
    cross_validated_f1,
    doubtful_labels,
    evaluate_rules,
    micro_average_precision,
)


@given(st.integers(0, 10_000))
def test_weighted_average_precision_matches_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random((12, 4)) < 0.3
    truth[0, 0] = True
    predicted = rng.integers(0, 5, (12, 4)) / 4  # with ties
    copies = rng.integers(0, 3, (30, 12))
    copies[:, 0] = 1
    rows = [np.repeat(np.arange(12), each) for each in copies]
    wanted = [average_precision_score(truth[each].ravel(), predicted[each].ravel()) for each in rows]
    assert micro_average_precision(truth, predicted, copies) == pytest.approx(wanted)
    assert micro_average_precision(np.zeros((12, 4)), predicted, copies[:1]) == 0


def test_f1_uses_thresholds_chosen_on_other_clips():
    """A scale that alternates between clips makes the thresholds of other clips unsuitable."""
    truth = np.tile([1, 0, 0], (40, 1))
    assert cross_validated_f1(truth, truth * 0.3 + 0.1, seed=1) == 1
    assert cross_validated_f1(truth, np.zeros((40, 3)), seed=1) == pytest.approx(0.5)  # all are said
    scale = np.where(np.arange(40) % 2, 1.0, 0.01)[:, None]
    assert cross_validated_f1(truth, (truth + 0.5) * scale, seed=1) < 0.9


def test_differences_are_paired_with_the_first_rule(taxonomy):
    rng = np.random.default_rng(0)
    truth = (rng.random((50, 37)) < 0.2).astype(int)
    good = truth * 0.5 + rng.random((50, 37)) * 0.6
    found = evaluate_rules(
        truth, {"a": good, "b": good, "c": rng.random((50, 37))}, taxonomy, bootstrap=50, seed=1
    )
    for level in ("coarse", "fine"):
        assert found["b"][level]["difference_ci95"] == [0, 0]
        assert found["c"][level]["difference_ci95"][1] < 0
        low, high = found["a"][level]["ci95"]
        assert low < found["a"][level]["ap"] < high


def test_annotator_table_exposes_random_annotators(taxonomy):
    annotations, _ = crowd(taxonomy, coins=1)
    table = annotator_table(collect_votes(annotations, taxonomy), POOLED).set_index("annotator_id")
    assert table.index[0] == 1000
    assert table.loc[1000, "clips"] == 120
    assert table.loc[1000, "false_alarms"] > 0.3
    assert table.drop(index=1000)["false_alarms"].max() < 0.05
    assert table.loc[1000, "agreement"] < table.drop(index=1000)["agreement"].median()
    alone = annotator_table(collect_votes(annotations[annotations["annotator_id"] == 1000], taxonomy), POOLED)
    assert alone["agreement"].isna().all()


def test_clips_to_review_are_those_with_doubtful_majority(taxonomy):
    annotations, _ = crowd(taxonomy, clips=30)
    votes = collect_votes(annotations, taxonomy)
    majority = (votes.fraction() > 0.5).astype(float)
    column = taxonomy.labels.index("8_dog")
    doubted = majority.copy()
    doubted[3, column], doubted[5, column] = 1 - majority[3, column], abs(0.9 - majority[5, column])
    table = doubtful_labels(votes, doubted, limit=5)
    assert table["label"].tolist() == ["8_dog", "8_dog"]
    assert table["audio_filename"].tolist() == [votes.clips[3], votes.clips[5]]


def test_label_quality_stage_writes_its_report(taxonomy, taxonomy_file, tmp_path):
    annotations, truth = crowd(taxonomy, clips=60)
    agreed = annotations.drop_duplicates("audio_filename").assign(annotator_id=0)
    agreed[list(taxonomy.fine)] = truth.astype(int)
    table = pd.concat([annotations, agreed]).assign(split="validate")
    table.columns = [f"{name}_presence" if name in taxonomy.labels else name for name in table.columns]
    table.to_csv(tmp_path / "annotations.csv", index=False)
    project = Project(ROOT)
    fewer = {"label_quality.bootstrap": 20, "label_quality.rules.glad.iterations": 2}
    change_params(ROOT / "params.yaml", tmp_path / "params.yaml", fewer)
    words = (tmp_path / "annotations.csv", taxonomy_file, tmp_path / "out.json")
    words += ("--params", tmp_path / "params.yaml")
    project.stage("label_quality", *words, "--details", tmp_path / "details")
    found = json.loads((tmp_path / "out.json").read_text())
    assert list(found) == ["majority", "any", "fraction", "dawid_skene", "glad", "pooled", "verified"]
    for figures in found.values():
        assert set(figures["fine"]) >= {"ap", "f1", "ci95"}
        assert figures["clips"] == 60
        assert figures["seconds"] >= 0
    assert found["verified"]["learns_from_ground_truth_of"] == ["validate"]
    assert found["pooled"]["fine"]["ap"] > found["majority"]["fine"]["ap"]
    assert {path.name for path in (tmp_path / "details").iterdir()} == {
        "annotators.csv", "doubtful.csv", "reliability.csv"
    }  # fmt: skip
    message = project.stage("label_quality", *words, "--split", "train", code=1)
    assert "the split 'train' has no ground-truth rows" in message


def read_real(folder, mode):
    """Return taxonomy, votes, ground truth of the validate clips, and their rows among the votes."""
    taxonomy = read_taxonomy(folder / "dcase-ust-taxonomy.yaml")
    annotations = read_annotations(folder / "annotations.csv", taxonomy, mode)
    truth = select_ground_truth(annotations, "validate").set_index("audio_filename")[list(taxonomy.labels)]
    votes = collect_votes(annotations, taxonomy)
    return taxonomy, votes, (truth == 1).to_numpy(), pd.Index(votes.clips).get_indexer(truth.index)


def test_rules_on_the_real_annotations(sonyc_ust_v1):
    """Average precision of the known rules, and a lower bound for the pooled rule."""
    taxonomy, votes, truth, rows = read_real(sonyc_ust_v1, FROM_FINE)
    estimates = {"fraction": votes.fraction()[rows], "pooled": estimate_pooled(votes, POOLED)[rows]}
    found = evaluate_rules(truth, estimates, taxonomy, bootstrap=10, seed=1)
    assert found["fraction"]["fine"]["ap"] == pytest.approx(0.521, abs=0.002)
    assert found["fraction"]["coarse"]["ap"] == pytest.approx(0.841, abs=0.001)
    assert found["pooled"]["fine"]["ap"] >= 0.72
    assert found["pooled"]["coarse"]["ap"] >= 0.905


def test_coarse_figure_of_uncorrected_file_is_reproduced(sonyc_ust_v1):
    """The published coarse average precision of the fraction rule is 0.829, with the error of release 0.1."""
    taxonomy, votes, truth, rows = read_real(sonyc_ust_v1, AS_GIVEN)
    coarse = slice(0, len(taxonomy.coarse))
    found = average_precision_score(truth[:, coarse].ravel(), votes.fraction()[rows][:, coarse].ravel())
    assert found == pytest.approx(0.829, abs=0.001)
