"""The recipe ``train``: one network, by the report (section 5)."""

from ust.training.config import FlatConfig, Recipe
from ust.training.flat import fit_flat
from ust.training.stagnation import Stagnation

RECIPE = Recipe(FlatConfig, Stagnation, fit_flat, several_processes=True)
