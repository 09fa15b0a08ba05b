"""Training one network by the report's recipe (section 5): its rate follows the scores on validate."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from ust.examples import Examples
from ust.inference import predict
from ust.schedule import StagnationSchedule
from ust.training.state import TrainingState
from ust.training.trainer import Recipe, Trainer

Score = Callable[[np.ndarray], dict[str, float]]


class StagnationRecipe(Recipe, Protocol):
    """What the recipe is set by, named as in params.yaml."""

    max_epochs: int
    patience: int
    reduce_factor: float
    min_lr: float
    factor_step: float
    restart: str


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes
    ----------
    number : int
        From 1.
    loss : float
        Mean over the training examples.
    scores : dict of str to float
        On validate, by level.
    lr : float
        The rate the epoch was trained with.
    restarts : int
        Warm restarts so far.
    best : tuple of str
        Levels whose score is a new best.
    """

    number: int
    loss: float
    scores: dict[str, float]
    lr: float
    restarts: int
    best: tuple[str, ...]

    def figures(self) -> dict[str, float]:
        """What a learning curve shows."""
        return {"loss": self.loss, **self.scores, "lr": self.lr, "restarts": self.restarts}


def train_on_stagnation(
    network: nn.Module,
    examples: Examples,
    validate: Examples,
    recipe: StagnationRecipe,
    score: Score,
    *,
    device: torch.device,
    name: str,
    on_epoch: Callable[[Epoch], None],
    state: TrainingState | None = None,
) -> list[Epoch]:
    """Train in place; change the rate when no score has been a new best for some epochs.

    Parameters
    ----------
    network : torch.nn.Module
        Takes log-mels and embeddings, gives logits of the targets.
    examples : Examples
        With targets of the network's outputs.
    validate : Examples
        Predicted after each epoch.
    recipe : StagnationRecipe
    score : callable
        Takes those predictions [shape=(validate, outputs)] and gives a score for each level that is watched.
    device : torch.device
    name : str
        Of the network.
    on_epoch : callable
        Called after each epoch, when the network holds its weights: the place to save the best.
    state : TrainingState, optional
        Where to go on from, for which `on_epoch` is not called again; kept up to date.

    Returns
    -------
    list of Epoch
        All, those gone on from included.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    trainer = Trainer(network, examples, recipe, device=device, name=name)
    schedule = StagnationSchedule(
        recipe.lr, recipe.patience, recipe.reduce_factor, recipe.min_lr, recipe.factor_step, recipe.restart
    )
    state = state or TrainingState()
    best: dict[str, float] = {}
    if state.epochs:
        trainer.restore(state)
        schedule.go_on(state.values["schedule"])
        best = state.values["best"]
    for number in range(len(state.epochs) + 1, recipe.max_epochs + 1):
        loss = trainer.epoch(number)
        scores = score(predict(network, validate, batch_size=2 * recipe.batch_size, device=device))
        new_best = tuple(level for level, value in scores.items() if value > best.get(level, -1.0))
        best |= {level: scores[level] for level in new_best}
        epoch = Epoch(number, loss, scores, lr=schedule.lr, restarts=schedule.restarts, best=new_best)
        on_epoch(epoch)
        if schedule.step(improved=bool(new_best)):
            trainer.restart(schedule.lr)
        trainer.keep(state)
        state.values |= {"schedule": schedule.values(), "best": best}
        state.epochs.append(asdict(epoch))
        state.write()
    return [Epoch(**{**values, "best": tuple(values["best"])}) for values in state.epochs]


def stagnant(epochs: list[Epoch], level: str, patience: int) -> bool:
    """Whether the last best epoch of a level is more than `patience` epochs ago: more would bring little."""
    last = max((epoch.number for epoch in epochs if level in epoch.best), default=0)
    return epochs[-1].number - last > patience
