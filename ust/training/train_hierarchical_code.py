"""The recipe ``train_hierarchical_code``: the networks of a hierarchy, each by the authors' code."""

from ust.training.config import HierarchyConfig, Recipe
from ust.training.hierarchical import fit_hierarchy
from ust.training.plateau import Plateau

RECIPE = Recipe(HierarchyConfig, Plateau, fit_hierarchy)
