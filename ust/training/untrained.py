"""The recipe ``untrained``: save an architecture that has its weights already."""

from typing import Any, ClassVar, Literal

from ust.models.audioset import AudioSet, complete_config
from ust.models.checkpoints import SavedNetwork, save_network
from ust.models.outputs import output_labels
from ust.training.config import FlatConfig, Recipe
from ust.training.work import TrainingContext, TrainingData
from ust.util.config import Section
from ust.util.errors import UserError


class Untrained(Section):
    """Settings of the recipe ``untrained``; it has none."""

    cache_gib: ClassVar[float] = 0.0  # no feature is read


class UntrainedConfig(FlatConfig):
    """A row of ``systems`` with this recipe."""

    architecture: Literal["audioset"]
    variants: ClassVar[bool] = False


def save_untrained(system: Any, data: TrainingData, context: TrainingContext) -> None:
    """Save the network for those of the labels that have AudioSet classes.

    Raises
    ------
    UserError
        If ``classes`` names a label or a class that does not exist, or no label has classes.
    """
    labels = output_labels(system.outputs, context.taxonomy)
    try:
        config = complete_config(system.config, context.taxonomy, labels)
    except ValueError as error:
        raise UserError(f"systems.{context.name}.{error}") from None
    labels, shapes = list(config.classes), data.train.shapes
    network = AudioSet(config, len(labels), shapes)
    metadata = context.metadata | {"outputs": system.outputs, "epochs": 0, "converged": True, "parameters": 0}
    save_network(context.out, SavedNetwork(network, system.architecture, config, labels, metadata, shapes))


RECIPE = Recipe(UntrainedConfig, Untrained, save_untrained)
