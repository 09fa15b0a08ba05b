"""Configuration of systems: a row of params.yaml, with the settings of its architecture and its trainer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from ust.models.context import ContextConfig
from ust.models.registry import ARCHITECTURES
from ust.util.config import ModelPath, Name, NonNegativeFloat, Section, Seed


class Row(Section):
    """The keys of a row that are not settings of its architecture or trainer."""

    trainer: Name
    """Name of the trainer in `ust.training.registry.TRAINERS`."""
    architecture: Literal[tuple(ARCHITECTURES)]
    """Name of the architecture in `ust.models.registry.ARCHITECTURES`."""
    features: Annotated[list[Name], Field(min_length=1)]
    """Features of the network, in the order of the architecture's inputs."""
    labels: Name
    """Row of ``labels`` with the training targets."""

    table: ClassVar[str] = "systems"  # the section of params.yaml with such rows
    description: ClassVar[str] = "{}"  # format of the system's description, given the architecture's
    variants: ClassVar[bool] = True  # whether augmented variants of the clips are training examples


class FlatRow(Row):
    """A row of ``systems``: a single network."""

    outputs: Literal["all", "fine", "coarse"]
    """Labels that the network predicts: all 37, the 29 fine ones or the 8 coarse ones."""


class ContextRow(FlatRow):
    """A row of a network that may take time and place beside the features."""

    context: ContextConfig | None = None
    """Settings of the network of time and place; null for a system without."""


class PretrainedRow(ContextRow):
    """A row of ``pretrained``: a network that starts from the weights of a pretrained one."""

    network: Name
    """The pretrained network, a section of params.yaml."""

    table: ClassVar[str] = "pretrained"


class HierarchyRow(Row):
    """A row of ``hierarchies``: a root network and a network for each group."""

    root: Literal["flat", "own"]
    """"flat" takes the network `flat` as root, "own" trains one for the coarse labels."""
    flat: ModelPath
    """Checkpoint of the flat network, below ``models/``."""
    context: ContextConfig | None = None
    """Settings of the networks of time and place; null for a system without."""
    negatives: bool
    """Train the networks of groups on all clips, with another output for those of other groups."""

    table: ClassVar[str] = "hierarchies"
    description: ClassVar[str] = "local classifier per parent node, each a {}"


class TrainingSettings(Section):
    """Base class of the settings of a trainer."""

    seed: Seed = 2019
    """Seed of initial weights, order, augmentation and dropout."""
    cache_gib: NonNegativeFloat = 4.0
    """GiB of features kept in memory, all files together; others are read in every epoch."""

    @property
    def has_folds(self) -> bool:
        """Whether training saves out-of-fold predictions of the train clips."""
        return False

    def check(self, model: Section, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that the settings suit those of the architecture and the shapes of its inputs."""


RowT = TypeVar("RowT", bound=Row)
SettingsT = TypeVar("SettingsT", bound=TrainingSettings)


@dataclass(frozen=True)
class SystemConfig(Generic[RowT, SettingsT]):
    """All settings of a system, from three sections of params.yaml.

    Attributes
    ----------
    row : Row
        Its row, such as a `FlatRow` or a `HierarchyRow`.
    model : Section
        Settings of its architecture, the class ``Config`` of that.
    training : TrainingSettings
        Settings of its trainer.
    """

    row: RowT
    model: Section
    training: SettingsT

    @property
    def description(self) -> str:
        """Description of the system for metrics and model cards."""
        return self.row.description.format(self.model.description)

    @property
    def inputs(self) -> dict[str, str]:
        """The feature of each input of the network.

        Raises
        ------
        ValueError
            If the architecture has another number of inputs.
        """
        architecture, features = self.row.architecture, self.row.features
        names = ARCHITECTURES[architecture].inputs
        if len(names) != len(features):
            raise ValueError(
                f"features are {', '.join(features)}; the architecture {architecture} takes {len(names)}, as "
                f"its {', '.join(names)}"
            )
        return dict(zip(names, features, strict=True))

    @property
    def context(self) -> ContextConfig | None:
        """Settings of the network of time and place; None if the system does not take them."""
        return getattr(self.row, "context", None)

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check, before any training, that network and trainer accept features of these shapes.

        Parameters
        ----------
        shapes : mapping of str to tuple of int
            Shape of each input of a clip.

        Raises
        ------
        ValueError
            Naming the parameter to change.
        """
        ARCHITECTURES[self.row.architecture].check(shapes)
        self.training.check(self.model, shapes)

    def with_training(self, **settings: Any) -> "SystemConfig[RowT, SettingsT]":
        """Return the system with other settings of its trainer, which are not validated."""
        return replace(self, training=self.training.model_copy(update=settings))

    def to_dict(self) -> dict[str, Any]:
        """Return all settings, by part."""
        return {name: getattr(self, name).model_dump() for name in ("row", "model", "training")}


@dataclass(frozen=True)
class SystemTrainer:
    """A way of training a system.

    Attributes
    ----------
    row : type
        Class of its rows, which names their table in params.yaml.
    settings : type
        Class of its section of params.yaml, which has the trainer's name.
    fit : callable
        Trains a system and writes its models; takes a `SystemConfig`, `ust.training.context.TrainingData` and
        `ust.training.context.TrainingContext`.
    architectures : tuple of str, optional
        Architectures that it trains; by default all without an ``own_trainer``.
    inherits : str, optional
        Trainer whose section completes its own.
    several_processes : bool
        Whether ``compute.processes`` can train one of its networks together; the others train in one.
    """

    row: type[Row]
    settings: type[TrainingSettings]
    fit: Callable[[SystemConfig, Any, Any], None]
    architectures: tuple[str, ...] | None = None
    inherits: str | None = None
    several_processes: bool = False

    @property
    def trains(self) -> tuple[str, ...]:
        """Names of the architectures that it trains."""
        if self.architectures:
            return self.architectures
        return tuple(name for name, network in ARCHITECTURES.items() if not network.own_trainer)
