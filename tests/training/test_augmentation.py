"""Augmentations of log-mels, compared with their definitions."""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from ust.training.augmentation import random_affine, random_erasing, spec_augment, time_roll
from ust.training.train_finetune import overlay, random_gain

X = torch.rand(6, 128, 40) - 0.3
Y = (torch.rand(6, 5) < 0.4).float()
MANY = torch.rand(400, 20, 50)


def power(x):
    return torch.exp(x.double() * 5 - 4.5) - 1e-5


def test_mix_adds_power_and_labels():
    mixed, labels = overlay(X, Y, 1.0, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    rng.random(6)
    other = rng.permutation(6)
    level = torch.from_numpy(rng.uniform(-8, 3, 6))
    wanted = power(X) + power(X[other]) * 10 ** (level / 10)[:, None, None]
    torch.testing.assert_close(power(mixed), wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(labels, torch.maximum(Y, Y[other]))


def test_share_0_changes_nothing():
    mixed, labels = overlay(X, Y, 0.0, np.random.default_rng(3))
    assert mixed is X
    assert labels is Y


def test_gain_is_in_decibels_of_power():
    found = random_gain(X, 6.0, np.random.default_rng(3))
    wanted = np.random.default_rng(3).uniform(-6, 6, 6)
    ratio = (found.double() * 5).exp() / (X.double() * 5).exp()
    decibels = 10 * torch.log10(ratio).mean(dim=(1, 2))
    np.testing.assert_allclose(decibels, wanted, atol=1e-4)


def test_time_roll_keeps_frames_in_cyclic_order():
    for before, after in zip(X, time_roll(X, np.random.default_rng(3)), strict=True):
        start = next(s for s in range(40) if torch.equal(torch.roll(before, s, 1), after))
        assert 0 <= start < 40


def test_masking_hides_one_range_of_bands_and_of_frames():
    kept = X.clone()
    found = spec_augment(X, 29, 9, np.random.default_rng(3))
    assert torch.equal(X, kept)
    for before, after in zip(X, found, strict=True):
        hidden = after != before
        bands, frames = hidden.all(dim=1), hidden.all(dim=0)
        assert bands.sum() < 30
        assert frames.sum() < 10
        assert torch.equal(hidden, bands[:, None] | frames[None])
        for stretch in (bands, frames):
            places = torch.nonzero(stretch).flatten()
            assert len(places) == 0 or places[-1] - places[0] == len(places) - 1


def test_mask_widths_are_uniform_up_to_the_maximum():
    """The maximum can be all bands."""
    bands = []
    for before, after in zip(MANY, spec_augment(MANY, 3, 0, np.random.default_rng(3)), strict=True):
        hidden = (after != before).all(dim=1)
        bands.append(int(hidden.sum()))
        assert not (after != before)[~hidden].any()
    counts = np.bincount(bands)
    assert len(counts) == 4
    assert (abs(counts - 100) < 4 * np.sqrt(400 * 0.25 * 0.75)).all()
    assert torch.equal(spec_augment(MANY, 0, 0, np.random.default_rng(3)), MANY)
    widest = [
        (m != x).all() for x, m in zip(MANY, spec_augment(MANY, 20, 0, np.random.default_rng(3)), strict=True)
    ]
    assert any(widest)


def test_random_erasing_erases_one_rectangle():
    kept = MANY.clone()
    found = random_erasing(MANY, 0.3, np.random.default_rng(3))
    assert torch.equal(MANY, kept)
    hidden = found != MANY
    done = hidden.any(dim=2).any(dim=1)
    assert done.float().mean() == pytest.approx(0.3, abs=0.08)
    areas = hidden[done].float().mean(dim=(1, 2))
    assert areas.min() < 0.06
    assert areas.max() > 0.3
    # 40 % at most, and what rounding the sides to whole bands and frames adds.
    assert areas.max() < 0.44
    for before, after, where in zip(MANY[done], found[done], hidden[done], strict=True):
        bands, frames = where.any(dim=1), where.any(dim=0)
        assert torch.equal(where, bands[:, None] & frames[None])
        for stretch in (bands, frames):
            places = torch.nonzero(stretch).flatten()
            assert places[-1] - places[0] == len(places) - 1
        torch.testing.assert_close(after[where], before.mean().expand(int(where.sum())))
    assert torch.equal(random_erasing(MANY, 0.0, np.random.default_rng(3)), MANY)


@pytest.mark.parametrize(("scale", "shift"), [(0.2, 0.0), (0.0, 0.3), (0.2, 0.3)])
def test_affine_matches_scipy(scale, shift):
    x = MANY[:5].double()
    found = random_affine(x, scale, shift, np.random.default_rng(3)).numpy()
    rng = np.random.default_rng(3)
    factor = rng.uniform(1 - scale, 1 + scale, (5, 2))[:, ::-1]  # of bands, then frames
    by = rng.uniform(-shift, shift, (5, 2))[:, ::-1] * x.shape[1:]
    middle = (np.array(x.shape[1:]) - 1) / 2
    for before, after, factors, places in zip(x.numpy(), found, factor, by, strict=True):
        offset = middle - (middle + places) / factors
        wanted = affine_transform(before, 1 / factors, offset, order=1, mode="nearest")
        np.testing.assert_allclose(after, wanted, atol=1e-9)


def test_affine_with_zero_ranges_is_the_identity():
    assert random_affine(MANY, 0.0, 0.0, np.random.default_rng(3)) is MANY
