"""A row of systems in params.yaml: what every one says, and what completes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model

from ust.models.registry import ARCHITECTURES
from ust.util.config import Name, Place, Section


class SystemConfig(Section):
    """What every system is: its row, its architecture's settings and its recipe's, in one.

    Attributes
    ----------
    recipe, architecture : str
        Rows of `ust.training.registry.RECIPES` and `ust.models.registry.ARCHITECTURES`.
    features : list of str
        What its network is given, in the order of its `inputs`.
    labels : str
        A row of ``labels``: what it learns.
    """

    recipe: Name
    architecture: Literal[tuple(ARCHITECTURES)]
    features: Annotated[list[Name], Field(min_length=1)]
    labels: Name
    variants: ClassVar[bool] = True  # whether it learns augmented clips, too
    of_frames: ClassVar[bool] = False  # whether it answers for each frame, not for the clip
    form: ClassVar[str] = "{}"  # what a recipe makes of an architecture, in words

    @property
    def has_folds(self) -> bool:
        """Whether its training keeps out-of-fold predictions of the train clips."""
        return False

    @property
    def config(self) -> Any:
        """What rebuilds its network."""
        kind = ARCHITECTURES[self.architecture].Config
        return kind(**{name: getattr(self, name) for name in kind.model_fields})

    @property
    def description(self) -> str:
        """What it is, in words."""
        return self.form.format(self.config.description)

    @property
    def inputs(self) -> dict[str, str]:
        """The feature by the network's name for it.

        Raises
        ------
        ValueError
            If it takes another number of them.
        """
        names = ARCHITECTURES[self.architecture].inputs
        if len(names) != len(self.features):
            raise ValueError(
                f"features are {', '.join(self.features)}; the architecture {self.architecture} takes "
                f"{len(names)}, as its {', '.join(names)}"
            )
        return dict(zip(names, self.features, strict=True))

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that its network and its recipe can take features of such shapes, before any work.

        Parameters
        ----------
        shapes : mapping of str to tuple of int
            Of a clip's features, by the network's inputs.

        Raises
        ------
        ValueError
            Saying what should be changed.
        """
        ARCHITECTURES[self.architecture].check(shapes)


class FlatConfig(SystemConfig):
    """A row of ``systems``: one network."""

    outputs: Literal["all", "fine", "coarse"]


class HierarchyConfig(SystemConfig):
    """A row of ``hierarchies``: networks of groups below a root."""

    root: Literal["flat", "own"]
    flat: Place
    negatives: bool
    form: ClassVar[str] = "local classifier per parent node, each a {}"


@cache
def system_model(row: type[SystemConfig], architecture: str, recipe: type[Section]) -> type[SystemConfig]:
    """All that a system is set by, checked together."""
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
