"""The trainer ``untrained``: save an architecture that needs no training."""

from dataclasses import replace
from typing import ClassVar

from ust.models.audioset import AudioSet
from ust.models.checkpoints import save_network
from ust.models.outputs import output_labels
from ust.training.config import FlatRow, System, SystemTrainer, TrainingSettings
from ust.training.context import TrainingContext, TrainingData
from ust.util.errors import UserError


class UntrainedRow(FlatRow):
    """A row of ``systems`` with this trainer."""

    variants: ClassVar[bool] = False


class UntrainedSettings(TrainingSettings):
    """Settings of the trainer ``untrained``, which uses none of them."""


def save_untrained(
    system: System[UntrainedRow, UntrainedSettings], data: TrainingData, context: TrainingContext
) -> None:
    """Save the network for those of the labels that have AudioSet classes."""
    labels = output_labels(system.row.outputs, context.taxonomy)
    try:
        config = system.network.complete_for_labels(context.taxonomy, labels)
    except ValueError as error:
        raise UserError(f"systems.{context.name}.{error}") from None
    labels, shapes = list(config.classes), data.train.shapes
    network = AudioSet(config, len(labels), shapes)
    metadata = context.metadata | {"outputs": system.row.outputs, "epochs": 0, "converged": True}
    metadata["parameters"] = 0
    saved = context.describe(system, network, labels, data.train, metadata)
    save_network(context.out, replace(saved, config=config))


TRAINER = SystemTrainer(UntrainedRow, UntrainedSettings, save_untrained, architectures=("audioset",))
