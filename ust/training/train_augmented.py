"""Training of one network on log-mels that are augmented anew in every batch, after Adapa (2019).

Adapa, Urban Sound Tagging using Convolutional Neural Networks, DCASE 2019, names mixup, random erasing,
scaling and shifting. The amount of each is a parameter, with our own defaults.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import AfterValidator

from ust.models.examples import Batch, Examples
from ust.training.augmentation import apply_mixup, random_affine, random_erasing
from ust.training.config import FlatConfig, Recipe
from ust.training.flat import fit_flat
from ust.training.stagnation import Stagnation
from ust.training.work import TrainingContext, TrainingData
from ust.util.config import Name, Rate, Share, Weight
from ust.util.seeding import random_stream


class Augmented(Stagnation):
    """Settings of the recipe ``train_augmented``."""

    scale: Rate
    shift: Rate
    erase: Share
    mixup: Weight


def _one(features: list[str]) -> list[str]:
    """Check that there is exactly one feature."""
    if len(features) != 1:
        raise ValueError("Input should be one feature, a log-mel, which this recipe augments")
    return features


class AugmentedConfig(FlatConfig):
    """A row of ``systems`` with this recipe; its only feature is a log-mel."""

    features: Annotated[list[Name], AfterValidator(_one)]


@dataclass(frozen=True)
class AugmentedExamples(Examples):
    """Examples that are augmented as they are read.

    The random stream of a batch depends on its examples and their order, not on the batches read before. A
    resumed training therefore continues as an uninterrupted one would.

    Attributes
    ----------
    recipe : Augmented
        Settings of the augmentation.
    """

    recipe: Any = None

    def batch(self, indices: np.ndarray, device: torch.device) -> tuple[Batch, torch.Tensor]:
        """Read and augment the feature and the targets of the examples at `indices`."""
        batch, targets = super().batch(indices, device)
        ((name, x),) = batch.items()
        rng = random_stream(self.recipe.seed, "augment", indices.tobytes().hex())
        x = random_affine(x.float(), self.recipe.scale, self.recipe.shift, rng)
        x, targets = apply_mixup(random_erasing(x, self.recipe.erase, rng), targets, self.recipe.mixup, rng)
        return {name: x}, targets


def fit_augmented(system: Any, data: TrainingData, context: TrainingContext) -> None:
    """Train a network as `fit_flat`, on train clips that are augmented anew in every batch."""
    plain = data.train
    train = AugmentedExamples(plain.features, plain.rows, plain.targets, plain.sensors, system)
    fit_flat(system, replace(data, train=train), context)


RECIPE = Recipe(AugmentedConfig, Augmented, fit_augmented)
