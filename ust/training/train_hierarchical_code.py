"""The trainer ``train_hierarchical_code``: a hierarchy as in the authors' code of June 2019.

Its loss is unweighted, and its learning rate is reduced on plateaus of the validation loss.
"""

from typing import Annotated, Any

import torch
from pydantic import Field

from ust.training.config import HierarchyRow, SystemConfig, SystemTrainer
from ust.training.context import TrainingContext, TrainingData
from ust.training.schedules import PlateauSchedule
from ust.training.train import NetworkSettings, network_trainer
from ust.training.train_hierarchical import Node, fit_hierarchy
from ust.training.trainer import Epoch, Trainer, epochs_since_best, monitor_loss
from ust.util.config import Fraction, NonNegativeInt, OpenFraction, PositiveFloat, PositiveInt


class CodeSettings(NetworkSettings):
    """Settings of the trainer ``train_hierarchical_code``."""

    lr: PositiveFloat = 0.001
    """Initial learning rate."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Clips of a training step."""
    max_epochs: PositiveInt = 100
    """Number of epochs, at most."""
    pos_weight_power: Fraction = 0.0
    """The positive terms of the loss are weighted by (negatives / positives) to this power."""
    reduce_patience: NonNegativeInt = 5
    """Epochs without a lower validation loss before the rate is reduced."""
    reduce_factor: OpenFraction = 0.1
    """Factor of the reduction."""
    stop_patience: PositiveInt = 20
    """Training stops after this many epochs without a lower validation loss."""


def plateau_trainer(
    network: torch.nn.Module, node: Node, settings: CodeSettings, context: TrainingContext, **options: Any
) -> Trainer:
    """Return the trainer of a node's network, which monitors the validation loss and stops early."""
    return network_trainer(
        network, node.train, settings, context,
        schedule=PlateauSchedule(settings.lr, settings.reduce_patience, settings.reduce_factor),
        monitor=monitor_loss(node.monitored, 2 * settings.batch_size), mode="min",
        stop_patience=settings.stop_patience, **options,
    )  # fmt: skip


def fit_hierarchical_code(
    config: SystemConfig[HierarchyRow, CodeSettings], data: TrainingData, context: TrainingContext
) -> None:
    """Train a hierarchy whose networks are chosen by their validation loss; see `fit_hierarchy`."""
    fit_hierarchy(config, data, context, plateau_trainer, _stopped_early)


def _stopped_early(epochs: list[Epoch], settings: CodeSettings) -> bool:
    """Return whether early stopping ended the training, not the number of epochs."""
    return epochs_since_best(epochs) >= settings.stop_patience


TRAINER = SystemTrainer(HierarchyRow, CodeSettings, fit_hierarchical_code)
