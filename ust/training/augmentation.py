"""Augmentation of log-mel spectrograms and embeddings in batches."""

import numpy as np
import torch
from torch.nn import functional

from ust.models.examples import Batch


def mixup_batch(
    inputs: Batch, y: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Batch, torch.Tensor]:
    """Mix the inputs and target of each example with those of another, by a weight from Beta(alpha, alpha).

    Parameters
    ----------
    inputs : dict of str to torch.Tensor [shape=(batch, …)]
    y : torch.Tensor [shape=(batch, labels)]
    alpha : float
        0 returns the batch unchanged.
    rng : numpy.random.Generator

    References
    ----------
    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    if alpha == 0:
        return inputs, y
    weights = torch.from_numpy(rng.beta(alpha, alpha, len(y))).to(y)
    other = torch.from_numpy(rng.permutation(len(y))).to(y.device)

    def mix(values: torch.Tensor) -> torch.Tensor:
        weight = weights.to(values).view(-1, *[1] * (values.ndim - 1))
        return weight * values + (1 - weight) * values[other]

    return {name: mix(values) for name, values in inputs.items()}, mix(y)


AREA, ASPECT_RATIO = (0.02, 0.4), (0.3, 1 / 0.3)  # of the erased rectangle: Zhong et al., section 4.1


def time_roll(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Rotate each example by a random number of frames."""
    return torch.stack([torch.roll(spectrogram, int(rng.integers(x.shape[2])), 1) for spectrogram in x])


def spec_augment(x: torch.Tensor, bands: int, frames: int, rng: np.random.Generator) -> torch.Tensor:
    """Apply SpecAugment: set 0 to `bands` adjacent bands and 0 to `frames` adjacent frames to the mean.

    References
    ----------
    Park et al., SpecAugment: A Simple Data Augmentation Method for ASR, Interspeech 2019.
    """
    x = x.clone()
    for spectrogram in x:
        mean = spectrogram.mean()
        for axis, limit in ((0, bands), (1, frames)):
            width = int(rng.integers(limit + 1))
            start = int(rng.integers(spectrogram.shape[axis] - width + 1))
            spectrogram.narrow(axis, start, width).fill_(mean)
    return x


def random_erasing(x: torch.Tensor, probability: float, rng: np.random.Generator) -> torch.Tensor:
    """Set a random rectangle of bands and frames to the mean, in some examples.

    Parameters
    ----------
    x : torch.Tensor [shape=(batch, bands, frames)]
    probability : float
        Probability that an example is erased. The rectangle has 2 to 40 % of the area; the share of the bands
        that it covers is 0.3 to 3.3 times that of the frames.
    rng : numpy.random.Generator

    References
    ----------
    Zhong et al., Random Erasing Data Augmentation, AAAI 2020.
    """
    x = x.clone()
    for spectrogram in x:
        if rng.random() >= probability:
            continue
        area, ratio = rng.uniform(*AREA), rng.uniform(*ASPECT_RATIO)
        part, mean = spectrogram, spectrogram.mean()
        for axis, side in enumerate((np.sqrt(area * ratio), np.sqrt(area / ratio))):
            width = max(1, round(spectrogram.shape[axis] * min(side, 1.0)))
            part = part.narrow(axis, int(rng.integers(spectrogram.shape[axis] - width + 1)), width)
        part.fill_(mean)
    return x


def random_affine(x: torch.Tensor, scale: float, shift: float, rng: np.random.Generator) -> torch.Tensor:
    """Scale and shift each example, bands and frames independently."""
    if scale == shift == 0:
        return x
    # Coordinates of affine_grid: frames first, from -1 to 1.
    factor = rng.uniform(1 - scale, 1 + scale, (len(x), 2))
    middle = 2 * rng.uniform(-shift, shift, (len(x), 2))
    transform = np.zeros((len(x), 2, 3))
    transform[:, (0, 1), (0, 1)] = 1 / factor
    transform[:, :, 2] = -middle / factor
    images = x[:, None]
    grid = functional.affine_grid(torch.from_numpy(transform).to(x), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)[:, 0]
