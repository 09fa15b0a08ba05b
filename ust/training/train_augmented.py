"""The trainer ``train_augmented``: as ``train``, with log-mels augmented anew in every batch.

Adapa, Urban Sound Tagging using Convolutional Neural Networks, DCASE 2019, names mixup, random erasing,
scaling and shifting. The amount of each is a parameter, with our own defaults.
"""

from functools import partial
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator

from ust.features.context import select_audio_inputs
from ust.models.examples import Batch
from ust.training.augmentation import mixup_batch, random_affine, random_erasing
from ust.training.config import ContextRow, SystemConfig, SystemTrainer
from ust.training.context import TrainingContext, TrainingData
from ust.training.train import TrainSettings, fit_flat
from ust.util.config import Fraction, FractionBelowOne, Name, NonNegativeFloat


class AugmentedSettings(TrainSettings):
    """Settings of the trainer ``train_augmented``: those of ``train``, and of the augmentation."""

    scale: FractionBelowOne = 0.1
    """Bands and frames are stretched by up to this share."""
    shift: FractionBelowOne = 0.1
    """Bands and frames are shifted by up to this share of all of them."""
    erase: Fraction = 0.5
    """Share of the examples that lose a rectangle."""
    mixup: NonNegativeFloat = 0.2
    """Each example is mixed with another by a share from Beta(mixup, mixup); 0 for none."""


def _one(features: list[str]) -> list[str]:
    """Check that there is exactly one feature."""
    if len(features) != 1:
        raise ValueError("Input should be one feature, a log-mel, which this trainer augments")
    return features


class AugmentedRow(ContextRow):
    """A row of ``systems`` with this trainer; its only feature is a log-mel."""

    features: Annotated[list[Name], AfterValidator(_one)]


def augment_spectrograms(
    inputs: Batch, targets: torch.Tensor, rng: np.random.Generator, *, settings: AugmentedSettings
) -> tuple[Batch, torch.Tensor]:
    """Stretch, shift, erase and mix the log-mels of a batch."""
    (name,) = select_audio_inputs(inputs)
    x = inputs[name]
    x = random_erasing(random_affine(x.float(), settings.scale, settings.shift, rng), settings.erase, rng)
    return mixup_batch(inputs | {name: x}, targets, settings.mixup, rng)


def fit_augmented(
    config: SystemConfig[AugmentedRow, AugmentedSettings], data: TrainingData, context: TrainingContext
) -> None:
    """Train a network as `ust.training.train.fit_flat`, on train clips that are augmented in every batch."""
    augment = partial(augment_spectrograms, settings=config.training)
    fit_flat(config, data, context, augment=augment, augment_stream="batch")


TRAINER = SystemTrainer(AugmentedRow, AugmentedSettings, fit_augmented)
