"""Training one network for all its labels by the report's recipe."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from ust.examples import Examples
from ust.inference import complete_probabilities, output_labels, predict
from ust.metrics import coarse_counts, fine_counts, score
from ust.params import FlatSystem
from ust.schedule import StagnationSchedule
from ust.taxonomy import Taxonomy
from ust.training.state import TrainingState
from ust.training.trainer import Trainer

LEVELS = ("coarse", "fine")


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes
    ----------
    number : int
        From 1.
    loss : float
        Mean over the training examples.
    coarse, fine : float
        Official micro AUPRC on validate.
    lr : float
        The rate the epoch was trained with.
    restarts : int
        Warm restarts so far.
    best : tuple of str
        Levels ("coarse", "fine") whose score is a new best; "fine" never where only coarse is trained.
    """

    number: int
    loss: float
    coarse: float
    fine: float
    lr: float
    restarts: int
    best: tuple[str, ...]


def micro_auprcs(probabilities: np.ndarray, truth: np.ndarray, taxonomy: Taxonomy) -> dict[str, float]:
    """Official micro AUPRC of both levels; arrays of all labels, coarse first."""
    k = len(taxonomy.coarse)
    # In the precision of the prediction files, so that ties are the same there.
    probabilities = probabilities.astype(np.float64).round(6)
    return {
        "coarse": score(coarse_counts(truth[:, :k], probabilities[:, :k], taxonomy), taxonomy).micro_auprc,
        "fine": score(fine_counts(truth[:, k:], probabilities[:, k:], taxonomy), taxonomy).micro_auprc,
    }


def train_flat(
    network: nn.Module,
    examples: Examples,
    validate: Examples,
    taxonomy: Taxonomy,
    recipe: FlatSystem,
    *,
    device: torch.device,
    name: str,
    on_epoch: Callable[[Epoch], None],
    state: TrainingState | None = None,
) -> None:
    """Train in place.

    Parameters
    ----------
    network : torch.nn.Module
        Takes log-mels and embeddings, gives logits of the recipe's outputs.
    examples, validate : Examples
        With targets of the network's outputs, and of all labels, respectively.
    taxonomy : Taxonomy
    recipe : FlatSystem
    device : torch.device
    name : str
        Of the system.
    on_epoch : callable
        Called after each epoch, when the network holds its weights: the place to save the best.
    state : TrainingState, optional
        Where to go on from, for which `on_epoch` is not called again; kept up to date.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    labels = output_labels(recipe.outputs, taxonomy)
    trainer = Trainer(network, examples, recipe, device=device, name=name)
    schedule = StagnationSchedule(
        recipe.lr, recipe.patience, recipe.reduce_factor, recipe.min_lr, recipe.factor_step
    )
    best = dict.fromkeys(("coarse",) if recipe.outputs == "coarse" else LEVELS, -1.0)
    state = state or TrainingState()
    if state.epochs:
        trainer.restore(state)
        vars(schedule).update(state.values["schedule"])
        best = state.values["best"]
    for number in range(len(state.epochs) + 1, recipe.max_epochs + 1):
        loss = trainer.epoch(number)
        outputs = predict(network, validate, batch_size=2 * recipe.batch_size, device=device)
        scores = micro_auprcs(complete_probabilities(outputs, labels, taxonomy), validate.targets, taxonomy)
        new_best = tuple(level for level in best if scores[level] > best[level])
        best |= {level: scores[level] for level in new_best}
        epoch = Epoch(number, loss, **scores, lr=schedule.lr, restarts=schedule.restarts, best=new_best)
        on_epoch(epoch)
        if schedule.step(improved=bool(new_best)):
            trainer.restart(schedule.lr)
        trainer.keep(state)
        state.values |= {"schedule": asdict(schedule), "best": best}
        state.epochs.append(asdict(epoch))
        state.write()
