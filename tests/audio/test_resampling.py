"""The polyphase resampler, compared with resampy."""

import numpy as np
import pytest
import resampy
from hypothesis import given, settings
from hypothesis import strategies as st

from ust.audio.resampling import resample


@pytest.mark.parametrize("rate", [44_100, 48_000, 32_000, 22_050, 96_000, 11_025, 8_000, 44_101])
def test_resample_matches_resampy(rate):
    samples = np.random.default_rng(rate).uniform(-1, 1, 3 * rate).astype(np.float32)
    wanted = resampy.resample(samples, rate, 16_000, filter="kaiser_best")
    found = resample(samples, rate, 16_000)
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    length=st.integers(450, 5000),
    rates=st.sampled_from([(44_100, 16_000), (48_000, 16_000), (48_000, 44_100), (32_000, 22_050)]),
    seed=st.integers(0, 99),
)
def test_resample_matches_resampy_at_any_length(length, rates, seed):
    samples = np.random.default_rng(seed).uniform(-1, 1, length)
    wanted = resampy.resample(samples, *rates, filter="kaiser_best")
    np.testing.assert_allclose(resample(samples, *rates), wanted, atol=1e-5)


def test_resample_to_the_same_rate_is_the_identity():
    samples = np.arange(5.0)
    assert resample(samples, 8000, 8000) is samples
