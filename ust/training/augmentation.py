"""What a network on embeddings is trained on: targets of its own, and examples mixed with one another."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ust.annotations.taxonomy import Taxonomy
from ust.models.examples import Examples
from ust.models.outputs import output_labels


def select_outputs(system: Any, examples: Examples, taxonomy: Taxonomy) -> tuple[list[str], Examples]:
    """The labels that a system's network has outputs for, and examples with targets of these alone."""
    labels = output_labels(system.outputs, taxonomy)
    columns = [taxonomy.labels.index(label) for label in labels]
    return labels, examples.subset(slice(None), examples.targets[:, columns])


def mixup(
    x: torch.Tensor, y: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup: each example with another, both features and targets, by a share from Beta(alpha, alpha).

    Parameters
    ----------
    x : torch.Tensor [shape=(batch, …)]
    y : torch.Tensor [shape=(batch, labels)]
    alpha : float
        0 leaves them as they are.
    rng : numpy.random.Generator

    References
    ----------
    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    if alpha == 0:
        return x, y
    share = torch.from_numpy(rng.beta(alpha, alpha, len(x))).to(x)
    other = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    of_x = share.view(-1, *[1] * (x.ndim - 1))
    return of_x * x + (1 - of_x) * x[other], share[:, None] * y + (1 - share[:, None]) * y[other]


DECIBEL = np.log(10) / 10 / 5  # of power, in log-mels
OFFSET = 1e-5  # of power, in the log-mels of `ust.features.efficientat.network.log_mel`
LOUDEST, QUIETEST = 3.0, -8.0  # dB of a sound on top, relative to what it had
AREA, RATIO = (0.02, 0.4), (0.3, 1 / 0.3)  # of what is erased: Zhong et al., section 4.1


def overlay(
    x: torch.Tensor, y: torch.Tensor, share: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some of the examples with another's sound on top, as sounds add up: in power, 3 dB louder to 8 dB
    softer.

    Parameters
    ----------
    x : torch.Tensor [shape=(batch, bands, frames)]
    y : torch.Tensor [shape=(batch, labels)]
        What is in either is in both together: 1 - (1 - a)(1 - b).
    share : float
        Of the examples that this is done to.
    rng : numpy.random.Generator
    """
    if share == 0:
        return x, y
    chosen = torch.from_numpy(rng.random(len(x)) < share).to(x.device)
    other = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    level = torch.from_numpy(rng.uniform(QUIETEST, LOUDEST, len(x))).to(x)
    power, more = (torch.exp(values * 5 - 4.5) - OFFSET for values in (x, x[other]))
    both = power.clamp(min=0) + more.clamp(min=0) * 10 ** (level / 10)[:, None, None]
    sound = (torch.log(both + OFFSET) + 4.5) / 5
    heard = 1 - (1 - y) * (1 - y[other])
    return torch.where(chosen[:, None, None], sound, x), torch.where(chosen[:, None], heard, y)


def random_gain(x: torch.Tensor, most_db: float, rng: np.random.Generator) -> torch.Tensor:
    """Each example louder or softer, by up to so many dB."""
    change = torch.from_numpy(rng.uniform(-most_db, most_db, len(x))).to(x)
    return x + change[:, None, None] * DECIBEL


def time_roll(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each example from another moment on, what was before it at the end."""
    return torch.stack([torch.roll(one, int(rng.integers(x.shape[2])), 1) for one in x])


def spec_augment(x: torch.Tensor, bands: int, frames: int, rng: np.random.Generator) -> torch.Tensor:
    """SpecAugment: of each example 0 to `bands` neighbouring bands, and 0 to `frames` frames, made its mean.

    References
    ----------
    Park et al., SpecAugment: A Simple Data Augmentation Method for ASR, Interspeech 2019.
    """
    x = x.clone()
    for one in x:
        mean = one.mean()
        for axis, most in ((0, bands), (1, frames)):
            width = int(rng.integers(most + 1))
            start = int(rng.integers(one.shape[axis] - width + 1))
            one.narrow(axis, start, width).fill_(mean)
    return x


def random_erasing(x: torch.Tensor, share: float, rng: np.random.Generator) -> torch.Tensor:
    """Random erasing: of some examples a rectangle of bands and frames made its mean.

    Parameters
    ----------
    x : torch.Tensor [shape=(batch, bands, frames)]
    share : float
        Of the examples that this is done to. The rectangle has 2 to 40 % of the area; the share of the bands
        that it covers is 0.3 to 3.3 times that of the frames.
    rng : numpy.random.Generator

    References
    ----------
    Zhong et al., Random Erasing Data Augmentation, AAAI 2020.
    """
    x = x.clone()
    for one in x:
        if rng.random() >= share:
            continue
        area, ratio = rng.uniform(*AREA), rng.uniform(*RATIO)
        part, mean = one, one.mean()
        for axis, side in enumerate((np.sqrt(area * ratio), np.sqrt(area / ratio))):
            width = max(1, round(one.shape[axis] * min(side, 1.0)))
            part = part.narrow(axis, int(rng.integers(one.shape[axis] - width + 1)), width)
        part.fill_(mean)
    return x


def random_affine(x: torch.Tensor, scale: float, shift: float, rng: np.random.Generator) -> torch.Tensor:
    """Each example stretched about its middle and shifted, bands and frames each by draws of their own.

    Parameters
    ----------
    x : torch.Tensor [shape=(batch, bands, frames)]
    scale : float
        Longer or shorter by up to this share.
    shift : float
        Up or down, earlier or later by up to this share of all. What comes in is like the edge.
    rng : numpy.random.Generator
    """
    if scale == shift == 0:
        return x
    # Axes as grids have them, frames first, from -1 to 1.
    factor = rng.uniform(1 - scale, 1 + scale, (len(x), 2))
    middle = 2 * rng.uniform(-shift, shift, (len(x), 2))
    where = np.zeros((len(x), 2, 3))
    where[:, (0, 1), (0, 1)] = 1 / factor
    where[:, :, 2] = -middle / factor
    images = x[:, None]
    grid = functional.affine_grid(torch.from_numpy(where).to(x), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)[:, 0]
