"""The recipe ``train_hierarchical``: the networks of a hierarchy, each by the report's text."""

from ust.training.config import HierarchyConfig, Recipe
from ust.training.hierarchical import fit_hierarchy
from ust.training.stagnation import Stagnation

RECIPE = Recipe(HierarchyConfig, Stagnation, fit_hierarchy)
