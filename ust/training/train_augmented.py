"""Training one network on log-mels that are another way in every batch, after Adapa (2019).

Adapa, Urban Sound Tagging using Convolutional Neural Networks, DCASE 2019, names mixup, random erasing,
scaling and shifting. How much of each is a parameter; the defaults are ours.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import AfterValidator

from ust.models.examples import Batch, Examples
from ust.training.augmentation import mixup, random_affine, random_erasing
from ust.training.config import FlatConfig, Recipe
from ust.training.flat import fit_flat
from ust.training.stagnation import Stagnation
from ust.training.work import TrainingContext, TrainingData
from ust.util.config import Name, Rate, Share, Weight
from ust.util.seeding import random_stream


class Augmented(Stagnation):
    """The recipe's section of params.yaml."""

    scale: Rate
    shift: Rate
    erase: Share
    mixup: Weight


def _one(features: list[str]) -> list[str]:
    if len(features) != 1:
        raise ValueError("Input should be one feature, a log-mel, which this recipe augments")
    return features


class AugmentedConfig(FlatConfig):
    """A row of ``systems`` of this recipe: its one feature is a log-mel."""

    features: Annotated[list[Name], AfterValidator(_one)]


@dataclass(frozen=True)
class AugmentedExamples(Examples):
    """Examples that are augmented as they are read.

    Draws belong to a batch, by which examples it has in which order: they do not depend on what was read
    before, so that a training that was cut short goes on as it would have.

    Attributes
    ----------
    recipe : Augmented
    """

    recipe: Any = None

    def batch(self, chosen: np.ndarray, device: torch.device) -> tuple[Batch, torch.Tensor]:
        """The feature, augmented, and targets of some of them (indices)."""
        batch, targets = super().batch(chosen, device)
        ((name, x),) = batch.items()
        rng = random_stream(self.recipe.seed, "augment", chosen.tobytes().hex())
        x = random_affine(x.float(), self.recipe.scale, self.recipe.shift, rng)
        x, targets = mixup(random_erasing(x, self.recipe.erase, rng), targets, self.recipe.mixup, rng)
        return {name: x}, targets


def fit_augmented(system: Any, data: TrainingData, work: TrainingContext) -> None:
    """Train a network as `fit_flat` does, on train clips that are augmented anew in every batch."""
    plain = data.train
    train = AugmentedExamples(plain.features, plain.rows, plain.targets, plain.sensors, system)
    fit_flat(system, replace(data, train=train), work)


RECIPE = Recipe(AugmentedConfig, Augmented, fit_augmented)
