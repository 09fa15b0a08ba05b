"""Settings of a system: its row in params.yaml, completed by the settings of architecture and recipe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model

from ust.models.registry import ARCHITECTURES
from ust.util.config import ModelPath, Name, Section


class SystemConfig(Section):
    """All settings of a system: its row, and the settings of its architecture and recipe.

    Attributes
    ----------
    recipe : str
        Name of the recipe in `ust.training.registry.RECIPES`.
    architecture : str
        Name of the architecture in `ust.models.registry.ARCHITECTURES`.
    features : list of str
        Features of the network, in the order of its ``inputs``.
    labels : str
        Row of ``labels`` with the training targets.
    """

    recipe: Name
    architecture: Literal[tuple(ARCHITECTURES)]
    features: Annotated[list[Name], Field(min_length=1)]
    labels: Name
    variants: ClassVar[bool] = True  # whether augmented variants are training examples
    of_frames: ClassVar[bool] = False  # whether the network classifies frames instead of clips
    form: ClassVar[str] = "{}"  # format of the description, given the architecture's

    @property
    def has_folds(self) -> bool:
        """Whether training saves out-of-fold predictions of the train clips."""
        return False

    @property
    def config(self) -> Any:
        """Settings of the architecture."""
        kind = ARCHITECTURES[self.architecture].Config
        return kind(**{name: getattr(self, name) for name in kind.model_fields})

    @property
    def description(self) -> str:
        """Description of the system for metrics and model cards."""
        return self.form.format(self.config.description)

    @property
    def inputs(self) -> dict[str, str]:
        """The feature of each input of the network.

        Raises
        ------
        ValueError
            If the architecture has another number of inputs.
        """
        names = ARCHITECTURES[self.architecture].inputs
        if len(names) != len(self.features):
            raise ValueError(
                f"features are {', '.join(self.features)}; the architecture {self.architecture} takes "
                f"{len(names)}, as its {', '.join(names)}"
            )
        return dict(zip(names, self.features, strict=True))

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check, before any training, that network and recipe accept features of these shapes.

        Parameters
        ----------
        shapes : mapping of str to tuple of int
            Shape of each input of a clip.

        Raises
        ------
        ValueError
            Naming the parameter to change.
        """
        ARCHITECTURES[self.architecture].check(shapes)


class FlatConfig(SystemConfig):
    """A row of ``systems``: a single network."""

    outputs: Literal["all", "fine", "coarse"]


class HierarchyConfig(SystemConfig):
    """A row of ``hierarchies``: a root network and a network for each group."""

    root: Literal["flat", "own"]
    flat: ModelPath
    negatives: bool
    form: ClassVar[str] = "local classifier per parent node, each a {}"


@cache
def system_model(row: type[SystemConfig], architecture: str, recipe: type[Section]) -> type[SystemConfig]:
    """Combine the settings of row, architecture and recipe into one class, to validate them together."""
    config = ARCHITECTURES[architecture].Config
    bases = (row, recipe) if issubclass(recipe, config) else (row, config, recipe)
    return create_model("System", __base__=bases)


@dataclass(frozen=True)
class Recipe:
    """A way of training.

    Attributes
    ----------
    row : type
        What a row of ``systems`` or ``hierarchies`` says.
    settings : type
        The recipe's section of params.yaml, which has its name.
    fit : callable
        Trains a system and writes its models; takes `ust.training.work.TrainingData` and
        `ust.training.work.TrainingContext`, too.
    several_processes : bool
        Whether ``compute.processes`` can train one of its networks together; the others train in one.
    """

    row: type[SystemConfig]
    settings: type[Section]
    fit: Callable[..., None]
    several_processes: bool = False
