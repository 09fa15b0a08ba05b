"""The registry of training recipes: each is in the module of its name."""

from ust.training import (
    train,
    train_augmented,
    train_baseline,
    train_finetune,
    train_head,
    train_hierarchical,
    train_hierarchical_code,
    untrained,
)
from ust.training.config import Recipe

RECIPES: dict[str, Recipe] = {
    "train": train.RECIPE,
    "train_augmented": train_augmented.RECIPE,
    "train_hierarchical": train_hierarchical.RECIPE,
    "train_hierarchical_code": train_hierarchical_code.RECIPE,
    "train_baseline": train_baseline.RECIPE,
    "train_head": train_head.RECIPE,
    "train_finetune": train_finetune.RECIPE,
    "untrained": untrained.RECIPE,
}
