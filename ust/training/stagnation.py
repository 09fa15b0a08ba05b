"""Training of one network with the report's recipe (section 5): the learning rate follows validation scores.

With few epochs the rate never changes; linear warm-up with cosine decay then gives better results.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from ust.training.schedules import CosineSchedule, StagnationSchedule
from ust.training.trainer import NetworkSettings, Task, Trainer
from ust.util.config import Factor, Positive, Rate, Whole

Score = Callable[[np.ndarray], dict[str, float]]


class Stagnation(NetworkSettings):
    """Settings of the recipes ``train`` and ``train_hierarchical``."""

    schedule: Literal["stagnation", "cosine"]
    warm_up: Rate
    patience: Whole
    reduce_factor: Factor
    min_lr: Positive
    factor_step: Rate
    restart: Literal["reached", "passed"]


def build_schedule(recipe: Stagnation) -> StagnationSchedule | CosineSchedule:
    """Build the learning-rate schedule of the settings."""
    if recipe.schedule == "cosine":
        return CosineSchedule(recipe.lr, recipe.warm_up)
    return StagnationSchedule(
        recipe.lr, recipe.patience, recipe.reduce_factor, recipe.min_lr, recipe.factor_step, recipe.restart
    )


@dataclass(frozen=True)
class Epoch:
    """Result of an epoch.

    Attributes
    ----------
    number : int
        From 1.
    loss : float
        Mean over the training examples.
    scores : dict of str to float
        Validation scores by level.
    lr : float
        Learning rate of the epoch or, with a schedule by step, of its last step.
    restarts : int
        Number of warm restarts so far.
    best : tuple of str
        Levels with a new best score.
    """

    number: int
    loss: float
    scores: dict[str, float]
    lr: float
    restarts: int
    best: tuple[str, ...]

    def figures(self) -> dict[str, float]:
        """Metrics of the learning curve."""
        return {"loss": self.loss, **self.scores, "lr": self.lr, "restarts": self.restarts}


def train_on_stagnation(task: Task, recipe: Stagnation, score: Score) -> list[Epoch]:
    """Train in place, with a schedule that is updated by new best scores.

    Parameters
    ----------
    task : Task
        Its validate examples are predicted after each epoch.
    recipe : Stagnation
    score : callable
        Maps these predictions [shape=(validate, outputs)] to a score for each monitored level.

    Returns
    -------
    list of Epoch
        All epochs, including those before a resumed training.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    trainer, state = Trainer(task, recipe), task.state
    schedule = build_schedule(recipe)
    best: dict[str, float] = {}
    if state.epochs:
        trainer.load_state(state)
        schedule.load_state_dict(state.values["schedule"])
        best = state.values["best"]
    for number in range(len(state.epochs) + 1, recipe.max_epochs + 1):
        loss = trainer.epoch(number, schedule.step_lr)
        scores = score(trainer.probabilities(task.validate))
        new_best = tuple(level for level, value in scores.items() if value > best.get(level, -1.0))
        best |= {level: scores[level] for level in new_best}
        epoch = Epoch(number, loss, scores, lr=schedule.lr, restarts=schedule.restarts, best=new_best)
        task.on_epoch(epoch)
        if schedule.step(improved=bool(new_best)):
            trainer.restart(schedule.lr)
        trainer.save_state(state)
        state.values |= {"schedule": schedule.state_dict(), "best": best}
        state.epochs.append(asdict(epoch))
        state.write()
    return [Epoch(**{**values, "best": tuple(values["best"])}) for values in state.epochs]


def has_converged(epochs: list[Epoch], level: str, patience: int) -> bool:
    """Return whether the last best epoch of a level is more than `patience` epochs ago."""
    last = max((epoch.number for epoch in epochs if level in epoch.best), default=0)
    return epochs[-1].number - last > patience
