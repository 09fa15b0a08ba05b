"""Training of one network as in the authors' code, reducing the learning rate on plateaus."""

from dataclasses import asdict, dataclass

import torch

from ust.training.schedules import EarlyStopping
from ust.training.trainer import NetworkSettings, Task, Trainer
from ust.util.config import Count, Factor, Whole


class Plateau(NetworkSettings):
    """Settings of the recipe ``train_hierarchical_code``."""

    reduce_patience: Whole
    reduce_factor: Factor
    stop_patience: Count


@dataclass(frozen=True)
class Epoch:
    """Result of an epoch; `best` if its validation loss is the lowest so far."""

    number: int
    loss: float
    validation_loss: float
    lr: float
    best: bool

    def figures(self) -> dict[str, float]:
        """Metrics of the learning curve."""
        return {"loss": self.loss, "validation_loss": self.validation_loss, "lr": self.lr}


def train_on_plateau(task: Task, recipe: Plateau) -> list[Epoch]:
    """Train in place; reduce the learning rate on plateaus of the validation loss, and stop early.

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
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        trainer.optimizer, factor=recipe.reduce_factor, patience=recipe.reduce_patience
    )
    stopping = EarlyStopping(recipe.stop_patience)
    if state.epochs:
        trainer.load_state(state)
        plateau.load_state_dict(state.values["plateau"])
        stopping.lowest, stopping.since = state.values["stopping"]
    for number in range(len(state.epochs) + 1, recipe.max_epochs + 1):
        if stopping.exhausted:
            break
        lr = trainer.optimizer.param_groups[0]["lr"]
        loss = trainer.epoch(number)
        validation_loss = trainer.loss(task.validate)
        epoch = Epoch(number, loss, validation_loss, lr, best=stopping.step(validation_loss))
        task.on_epoch(epoch)
        plateau.step(validation_loss)
        trainer.save_state(state)
        state.values |= {"plateau": plateau.state_dict(), "stopping": [stopping.lowest, stopping.since]}
        state.epochs.append(asdict(epoch))
        state.write()
    return [Epoch(**values) for values in state.epochs]


def stopped_early(epochs: list[Epoch], patience: int) -> bool:
    """Return whether early stopping ended the training, not the number of epochs."""
    last = max((epoch.number for epoch in epochs if epoch.best), default=0)
    return epochs[-1].number - last >= patience
