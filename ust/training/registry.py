"""The recipes by name: how systems are trained."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ust.training.augmented import Augmented, AugmentedConfig, fit_augmented
from ust.training.baseline import Baseline, BaselineConfig, fit_baseline
from ust.training.config import FlatConfig, HierarchyConfig, SystemConfig
from ust.training.finetune import FinetuneConfig, FineTuning, fit_finetuned
from ust.training.flat import fit_flat
from ust.training.heads import HeadConfig, Heads, fit_head
from ust.training.hierarchical import fit_hierarchy
from ust.training.plateau import Plateau
from ust.training.stagnation import Stagnation
from ust.training.work import TrainingContext, TrainingData
from ust.util.config import Section


@dataclass(frozen=True)
class Recipe:
    """A way of training.

    Attributes
    ----------
    row : type
        Settings in a row of ``systems`` or ``hierarchies``.
    settings : type
        The recipe's section of params.yaml, which has its name.
    fit : callable
        Trains a system and saves its models.
    several_processes : bool
        Whether ``compute.processes`` applies; recipes without it train in one process.
    """

    row: type[SystemConfig]
    settings: type[Section]
    fit: Callable[[Any, TrainingData, TrainingContext], None]
    several_processes: bool = False


RECIPES: dict[str, Recipe] = {
    "train": Recipe(FlatConfig, Stagnation, fit_flat, several_processes=True),
    "train_augmented": Recipe(AugmentedConfig, Augmented, fit_augmented),
    "train_hierarchical": Recipe(HierarchyConfig, Stagnation, fit_hierarchy),
    "train_hierarchical_code": Recipe(HierarchyConfig, Plateau, fit_hierarchy),
    "train_baseline": Recipe(BaselineConfig, Baseline, fit_baseline),
    "train_head": Recipe(HeadConfig, Heads, fit_head),
    "train_finetune": Recipe(FinetuneConfig, FineTuning, fit_finetuned),
}
