"""The recipes: how a system is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ust.files.settings import Section
from ust.training.augmented import Augmented, OnePicture, fit_augmented
from ust.training.baseline import Baseline, OneClassifier, fit_baseline
from ust.training.flat import fit_flat
from ust.training.heads.finetune import FineTuning, OnePretrained, fit_pretrained
from ust.training.heads.fit import Heads, OneHead, fit_head
from ust.training.hierarchical import fit_hierarchy
from ust.training.loops.plateau import Plateau
from ust.training.loops.stagnation import Stagnation
from ust.training.rows import OneNetwork, System, Tree
from ust.training.work import Data, Work


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
        Trains a system and writes its models.
    several_processes : bool
        Whether ``compute.processes`` can train one of its networks together; the others train in one.
    """

    row: type[System]
    settings: type[Section]
    fit: Callable[[Any, Data, Work], None]
    several_processes: bool = False


RECIPES: dict[str, Recipe] = {
    "train": Recipe(OneNetwork, Stagnation, fit_flat, several_processes=True),
    "train_augmented": Recipe(OnePicture, Augmented, fit_augmented),
    "train_hierarchical": Recipe(Tree, Stagnation, fit_hierarchy),
    "train_hierarchical_code": Recipe(Tree, Plateau, fit_hierarchy),
    "train_baseline": Recipe(OneClassifier, Baseline, fit_baseline),
    "train_head": Recipe(OneHead, Heads, fit_head),
    "train_finetune": Recipe(OnePretrained, FineTuning, fit_pretrained),
}
