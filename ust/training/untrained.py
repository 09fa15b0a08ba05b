"""The trainer ``untrained``: save an architecture that needs no training."""

from typing import ClassVar

from ust.models.audioset import AudioSet
from ust.models.checkpoints import save_network
from ust.training.config import FlatRow, SystemConfig, SystemTrainer, TrainingSettings
from ust.training.context import TrainingContext, TrainingData, complete_for_labels


class UntrainedRow(FlatRow):
    """A row of ``systems`` with this trainer."""

    variants: ClassVar[bool] = False


class UntrainedSettings(TrainingSettings):
    """Settings of the trainer ``untrained``, which uses none of them."""


def save_untrained(
    config: SystemConfig[UntrainedRow, UntrainedSettings], data: TrainingData, context: TrainingContext
) -> None:
    """Save the network for those of the labels that have AudioSet classes."""
    config = complete_for_labels(config, context)
    labels = list(config.model.classes)
    network = AudioSet(config.model, len(labels), data.train.shapes)
    metadata = {"outputs": config.row.outputs, "epochs": 0, "converged": True, "parameters": 0}
    saved = context.describe_network(config, network, labels, data.train, context.metadata | metadata)
    save_network(context.out, saved)


TRAINER = SystemTrainer(UntrainedRow, UntrainedSettings, save_untrained, architectures=("audioset",))
