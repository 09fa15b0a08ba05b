"""Metrics of custom taggers: average precision and F1 against scikit-learn, and intervals."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score

from ust.annotations.taxonomy import Taxonomy
from ust.custom.metrics import bias_corrected_interval, compute_metrics, compute_scores
from ust.custom.report import find_mistakes
from ust.custom.training import TrainingResult
from ust.evaluation.average_precision import average_precision
from ust.evaluation.evaluation import Evaluation

CLASSES = Taxonomy(("1_tram", "2_Church bell", "3_none"), (), ())


@pytest.mark.parametrize("decimals", [1, 6])
def test_average_precision_matches_scikit_learn(decimals):
    rng = np.random.default_rng(decimals)
    truth, predicted = rng.random(50) < 0.3, rng.random(50).round(decimals)
    weights = rng.integers(0, 4, (5, 50)).astype(float)
    found = average_precision(truth, predicted, weights)
    for weight, area in zip(weights, found, strict=True):
        assert area == pytest.approx(average_precision_score(truth, predicted, sample_weight=weight))
    assert average_precision(truth, np.full(50, 0.5), np.ones((1, 50)))[0] == pytest.approx(truth.mean())
    assert np.isnan(average_precision(np.zeros(50, bool), predicted, weights)).all()


def test_level_scores_match_scikit_learn():
    rng = np.random.default_rng(3)
    truth, predicted = rng.random((60, 3)) < [0.5, 0.2, 0], rng.random((60, 3))
    thresholds = np.array([0.3, 0.8, 0.5])
    found = {
        name: values[0]
        for name, values in compute_scores(truth, predicted, thresholds, np.ones((1, 60))).items()
    }
    areas = [average_precision_score(truth[:, k], predicted[:, k]) for k in (0, 1)]
    assert found["micro_auprc"] == pytest.approx(average_precision_score(truth.ravel(), predicted.ravel()))
    assert found["macro_auprc"] == pytest.approx(np.mean(areas))
    assert found["class_auprc"][:2] == pytest.approx(areas)
    assert np.isnan(found["class_auprc"][2])
    assert found["micro_f1"] == pytest.approx(f1_score(truth, predicted >= thresholds, average="micro"))
    assert found["class_f1"][1] == pytest.approx(f1_score(truth[:, 1], predicted[:, 1] >= 0.8))


def test_unknown_labels_are_ignored():
    rng = np.random.default_rng(4)
    truth, predicted = rng.integers(-1, 2, (60, 2)), rng.random((60, 2))
    found = compute_scores(truth, predicted, np.full(2, 0.4), np.ones((1, 60)))
    for k in (0, 1):
        known = truth[:, k] >= 0
        wanted = average_precision_score(truth[known, k], predicted[known, k])
        assert found["class_auprc"][0, k] == pytest.approx(wanted)
        wanted = f1_score(truth[known, k], predicted[known, k] >= 0.4)
        assert found["class_f1"][0, k] == pytest.approx(wanted)
    known = truth >= 0
    assert found["micro_auprc"][0] == pytest.approx(average_precision_score(truth[known], predicted[known]))


def result(clips=60, recordings=12, seed=0):
    """Predictions of two classes, one almost without errors, and of a third class that never occurs."""
    rng = np.random.default_rng(seed)
    names = [f"{index:02}.flac" for index in range(clips)]
    truth = pd.DataFrame(rng.random((clips, 3)) < [0.5, 0.2, 0], names, list(CLASSES.labels)).astype(int)
    noise = rng.random((clips, 3))
    predicted = (truth * [0.5, 0.2, 0] + noise * [0.51, 0.8, 1]).clip(0, 1)
    sensors = [f"{index % recordings}" for index in range(clips)]
    evaluation = Evaluation.from_tables(truth.assign(sensor_id=sensors), predicted, CLASSES)
    metadata = {"thresholds": {"1_tram": 0.6, "2_Church bell": 0.4, "3_none": 0.5}}
    curve = pd.DataFrame({"seed": [0, 1, 0], "clips": [20, 20, 40], "score": [0.2, 0.4, 0.65]})
    model = {"metadata": metadata, "labels": list(CLASSES.labels)}
    return TrainingResult(None, CLASSES, model, truth, {"train": predicted}, {"train": evaluation}, curve)


@pytest.mark.parametrize("seed", range(5))
def test_intervals_contain_the_figure_and_macro_is_the_class_mean(seed):
    metrics, details = compute_metrics(result(seed=seed), bootstrap=200, seed=1)
    figures, intervals = metrics["train"]["coarse"], details["ci95"]["train"]["coarse"]
    assert figures.keys() == {"micro_auprc", "macro_auprc", "micro_f1", "calibration_error"}
    for name, interval in intervals.items():
        assert interval[0] <= figures[name] <= interval[1]
        assert 0 < interval[1] - interval[0] < 0.7
    classes = [details["labels"][name]["train"]["auprc"] for name in ("tram", "Church bell")]
    assert figures["macro_auprc"] == pytest.approx(np.mean(classes), abs=1e-4)
    assert details["labels"]["none"]["train"] == {"positives": 0, "auprc": None, "f1": None}
    assert details["labels"]["Church bell"]["threshold"] == 0.4
    assert metrics["twice_the_clips"] == pytest.approx(0.825)  # the mean error halves with each doubling


def test_class_with_few_positives_has_no_interval():
    _, details = compute_metrics(result(clips=8), bootstrap=50, seed=1)
    assert set(details["ci95"]["train"]["coarse"].values()) == {None}
    assert bias_corrected_interval(np.linspace(0, 0.5, 100), 0.7) is None
    assert bias_corrected_interval(np.ones(100), 1.0) == [1.0, 1.0]


def test_interval_is_corrected_for_resampling_bias():
    """Resamples that are shifted by half their spread move the interval by twice as much."""
    values = np.random.default_rng(0).normal(0.55, 0.1, 20_000)
    assert bias_corrected_interval(values, 0.5) == pytest.approx([0.45 - 0.196, 0.45 + 0.196], abs=0.006)


def test_mistakes_use_the_thresholds():
    clips = ["a", "b", "c"]
    labels = pd.DataFrame({"x": [1.0, 0, 0], "y": [0, 0, 1.0], "z": [np.nan] * 3}, clips)
    predicted = pd.DataFrame({"x": [0.55, 0.4, 0.1], "y": [0.35, 0.2, 0.3], "z": [0.99] * 3}, clips)
    found = find_mistakes(labels, predicted, {"x": 0.6, "y": 0.3, "z": 0.5}, 5)
    assert [(each["clip"], each["label"], each["kind"]) for each in found] == [("a", "x", "miss")]
    assert find_mistakes(labels, predicted, {"x": 0.5, "y": 0.3}, 5)[0]["kind"] == "false alarm"
    assert len(find_mistakes(labels, predicted, {"x": 0.6, "y": 0.1}, 1)) == 1
