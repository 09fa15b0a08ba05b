"""Platt scaling and the expected calibration error."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ust.annotations.taxonomy import Taxonomy
from ust.evaluation.calibration import Calibration, fit_calibration
from ust.evaluation.curves import calibration_errors, expected_calibration_error
from ust.evaluation.evaluation import Evaluation
from ust.models.systems import CalibratedClassifier, FlatSystem


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_platt_scaling_recovers_distortion():
    """The logits of each label are scaled and shifted differently."""
    rng = np.random.default_rng(0)
    z = rng.normal(-1, 2, (20_000, 3))
    y = (rng.random(z.shape) < sigmoid(z)).astype(int)
    scale, shift = np.array([0.2, 0.5, 2.0]), np.array([1.0, -1.0, 0.3])
    found = fit_calibration(sigmoid(z * scale + shift), y)
    np.testing.assert_allclose(found.scale, 1 / scale, rtol=0.1)
    np.testing.assert_allclose(found.shift, -shift / scale, atol=0.15)
    assert expected_calibration_error(y, found(sigmoid(z * scale + shift))) < 0.01
    assert expected_calibration_error(y, sigmoid(z * scale + shift)) > 0.05


def test_platt_scaling_ignores_clips_without_known_labels():
    rng = np.random.default_rng(2)
    p, y = rng.random((300, 4)), (rng.random((300, 4)) < 0.4).astype(float)
    unknown = np.arange(300) % 3 == 0
    masked = np.where(unknown[:, None], np.nan, y)
    found, wanted = fit_calibration(p, masked), fit_calibration(p[~unknown], y[~unknown])
    np.testing.assert_allclose(found.scale, wanted.scale, rtol=1e-6)
    np.testing.assert_allclose(found.shift, wanted.shift, rtol=1e-5, atol=1e-7)


def test_rare_label_is_calibrated_like_the_others():
    rng = np.random.default_rng(1)
    z = rng.normal(0, 2, (4000, 8))
    y = (rng.random(z.shape) < sigmoid(z)).astype(int)
    y[:, 7] = 0
    y[:1, 7] = 1
    found = fit_calibration(sigmoid(z / 4), y)
    np.testing.assert_allclose(found.scale[:7], 4, rtol=0.2)
    assert found.scale[7] > 0
    assert np.isfinite(found.shift).all()


@given(st.lists(st.floats(0.001, 0.999), min_size=2, max_size=30), st.floats(0.1, 5), st.floats(-3, 3))
def test_platt_scaling_keeps_order_and_is_invertible(values, scale, shift):
    calibration = Calibration(np.array([scale]), np.array([shift]))
    p = np.array(values)[:, None]
    calibrated = calibration(p)
    assert (np.diff(calibrated[np.argsort(p[:, 0]), 0]) >= 0).all()
    inner = (calibrated > 1e-5) & (calibrated < 1 - 1e-5)
    np.testing.assert_allclose(calibration.invert(calibrated)[inner], p[inner], rtol=1e-3, atol=1e-4)


def test_calibration_error_matches_computation_by_hand():
    """One bin has 0.15 with one positive in four, the other 0.95 with two in two."""
    predicted = np.array([[0.15], [0.15], [0.15], [0.15], [0.95], [0.95]])
    truth = np.array([[1], [0], [0], [0], [1], [1]])
    assert expected_calibration_error(truth, predicted) == pytest.approx((4 * 0.10 + 2 * 0.05) / 6)


TAXONOMY = Taxonomy(("1_a", "2_b"), (), ())


def test_calibrated_classifier_applies_scale_and_shift():
    class Echo(nn.Module):
        inputs = ("x",)

        def forward(self, x):
            return x

    calibration = Calibration(np.array([2.0, 0.5]), np.array([-1.0, 1.0]))
    metadata = {"calibration": calibration.to_dict()}
    x = torch.tensor([[0.3, -0.7], [2.0, 1.0]])
    plain = torch.sigmoid(x).numpy()
    found = FlatSystem(Echo(), list(TAXONOMY.labels), TAXONOMY, metadata)(x=x).numpy()
    np.testing.assert_allclose(found, calibration(plain), atol=1e-6)
    np.testing.assert_allclose(CalibratedClassifier(Echo(), ["a", "b"])(x=x).numpy(), plain)


def test_uncalibrated_error_is_that_of_the_raw_probabilities():
    rng = np.random.default_rng(0)
    before = rng.uniform(0.2, 0.8, (200, 2))
    calibration = Calibration(np.array([3.0, 2.0]), np.array([-1.0, 0.5]))
    truth = pd.DataFrame((rng.random((200, 2)) < before).astype(int), columns=list(TAXONOMY.labels))
    truth.insert(0, "sensor_id", 1)
    predicted = pd.DataFrame(calibration(before), columns=list(TAXONOMY.labels))
    evaluation = Evaluation.from_tables(truth, predicted, TAXONOMY)
    model = {"labels": list(TAXONOMY.labels), "metadata": {"calibration": calibration.to_dict()}}
    found = calibration_errors(evaluation, model)
    y = truth[list(TAXONOMY.labels)].to_numpy()
    assert found["ece"]["coarse"] == pytest.approx(expected_calibration_error(y, predicted.to_numpy()))
    assert found["ece_uncalibrated"]["coarse"] == pytest.approx(
        expected_calibration_error(y, before), abs=1e-6
    )
    assert "ece_uncalibrated" not in calibration_errors(evaluation)
