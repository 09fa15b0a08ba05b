"""Training one network as the authors' code did: its rate falls on a plateau of the validation loss."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import nn

from ust.examples import Examples
from ust.schedule import EarlyStopping
from ust.training.state import TrainingState
from ust.training.trainer import Recipe, Trainer


class PlateauRecipe(Recipe, Protocol):
    """What the recipe is set by, named as in params.yaml."""

    max_epochs: int
    reduce_patience: int
    reduce_factor: float
    stop_patience: int


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to; `best` when its validation loss is the lowest so far."""

    number: int
    loss: float
    validation_loss: float
    lr: float
    best: bool

    def figures(self) -> dict[str, float]:
        """What a learning curve shows."""
        return {"loss": self.loss, "validation_loss": self.validation_loss, "lr": self.lr}


def train_on_plateau(
    network: nn.Module,
    examples: Examples,
    validate: Examples,
    recipe: PlateauRecipe,
    *,
    device: torch.device,
    name: str,
    on_epoch: Callable[[Epoch], None],
    state: TrainingState | None = None,
) -> list[Epoch]:
    """Train in place; reduce the rate on a plateau, stop early.

    Parameters
    ----------
    network : torch.nn.Module
        Takes log-mels and embeddings, gives logits of the targets.
    examples, validate : Examples
        With targets of the network's outputs.
    recipe : PlateauRecipe
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
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        trainer.optimizer, factor=recipe.reduce_factor, patience=recipe.reduce_patience
    )
    stopping = EarlyStopping(recipe.stop_patience)
    state = state or TrainingState()
    if state.epochs:
        trainer.restore(state)
        plateau.load_state_dict(state.values["plateau"])
        stopping.lowest, stopping.since = state.values["stopping"]
    for number in range(len(state.epochs) + 1, recipe.max_epochs + 1):
        if stopping.exhausted:
            break
        lr = trainer.optimizer.param_groups[0]["lr"]
        loss = trainer.epoch(number)
        watched = trainer.loss(validate)
        epoch = Epoch(number, loss, watched, lr, best=stopping.step(watched))
        on_epoch(epoch)
        plateau.step(watched)
        trainer.keep(state)
        state.values |= {"plateau": plateau.state_dict(), "stopping": [stopping.lowest, stopping.since]}
        state.epochs.append(asdict(epoch))
        state.write()
    return [Epoch(**values) for values in state.epochs]


def exhausted(epochs: list[Epoch], patience: int) -> bool:
    """Whether training stopped because nothing was gained, not because its epochs were over."""
    last = max((epoch.number for epoch in epochs if epoch.best), default=0)
    return epochs[-1].number - last >= patience
