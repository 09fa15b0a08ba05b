"""Training the flat network by the report's recipe."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ust.console import progress
from ust.errors import UserError
from ust.examples import Examples, batch_bounds
from ust.inference import complete_probabilities, output_labels, predict
from ust.metrics import coarse_counts, fine_counts, score
from ust.schedule import StagnationSchedule
from ust.seeding import generator
from ust.taxonomy import Taxonomy

LEVELS = ("coarse", "fine")


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of training, named as in params.yaml."""

    seed: int
    labels: str
    lr: float
    batch_size: int
    max_epochs: int
    pos_weight_power: float
    patience: int
    reduce_factor: float
    min_lr: float
    factor_step: float


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


def positive_weights(targets: np.ndarray, power: float) -> np.ndarray:
    """(negatives / positives) to a power for each label; 1 for a label without either.

    Parameters
    ----------
    targets : numpy.ndarray [shape=(n, labels)]
        0, 1, or a share between: a soft label counts as that share of a positive.
    """
    positive = targets.sum(axis=0, dtype=np.float64)
    negative = len(targets) - positive
    both = (positive > 0) & (negative > 0)
    ratio = np.divide(negative, positive, out=np.ones_like(positive), where=both)
    return ratio**power


def micro_auprcs(probabilities: np.ndarray, truth: np.ndarray, taxonomy: Taxonomy) -> dict[str, float]:
    """Official micro AUPRC of both levels; arrays of all labels, coarse first."""
    k = len(taxonomy.coarse)
    # In the precision of the prediction files, so that ties are the same there.
    probabilities = probabilities.astype(np.float64).round(6)
    return {
        "coarse": score(coarse_counts(truth[:, :k], probabilities[:, :k], taxonomy), taxonomy).micro_auprc,
        "fine": score(fine_counts(truth[:, k:], probabilities[:, k:], taxonomy), taxonomy).micro_auprc,
    }


def train(
    network: nn.Module,
    examples: Examples,
    validate: Examples,
    taxonomy: Taxonomy,
    recipe: Recipe,
    *,
    device: torch.device,
    on_epoch: Callable[[Epoch], None],
) -> None:
    """Train in place.

    Parameters
    ----------
    network : torch.nn.Module
        Takes log-mels and embeddings, gives logits of `output_labels`.
    examples, validate : Examples
        With targets of the network's outputs, and of all labels, respectively.
    taxonomy : Taxonomy
    recipe : Recipe
    device : torch.device
    on_epoch : callable
        Called after each epoch, when the network holds its weights: the place to save the best.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    labels = output_labels(recipe.labels, taxonomy)
    shuffle = generator(recipe.seed, "shuffle")
    torch.manual_seed(recipe.seed)  # dropout
    pos_weight = (
        torch.from_numpy(positive_weights(examples.targets, recipe.pos_weight_power)).float().to(device)
    )
    schedule = StagnationSchedule(
        recipe.lr, recipe.patience, recipe.reduce_factor, recipe.min_lr, recipe.factor_step
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=schedule.lr, fused=True)
    scored = ("coarse",) if recipe.labels == "coarse" else LEVELS
    best = dict.fromkeys(scored, -1.0)
    for number in range(1, recipe.max_epochs + 1):
        network.train()
        total = 0.0
        batches = examples.batches(recipe.batch_size, order=shuffle.permutation(len(examples)), device=device)
        steps = len(batch_bounds(len(examples), recipe.batch_size))
        for logmel, vggish, targets in progress(
            batches, total=steps, description=f"epoch {number}", unit="step"
        ):
            loss = functional.binary_cross_entropy_with_logits(
                network(logmel, vggish), targets, pos_weight=pos_weight
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(targets)
        if not np.isfinite(total):
            raise UserError(f"the loss is no longer finite in epoch {number}; a smaller train.lr may help")

        outputs = predict(network, validate, batch_size=2 * recipe.batch_size, device=device)
        scores = micro_auprcs(complete_probabilities(outputs, labels, taxonomy), validate.targets, taxonomy)
        new_best = tuple(level for level in scored if scores[level] > best[level])
        best |= {level: scores[level] for level in new_best}
        on_epoch(
            Epoch(
                number,
                total / len(examples),
                **scores,
                lr=schedule.lr,
                restarts=schedule.restarts,
                best=new_best,
            )
        )
        if schedule.step(improved=bool(new_best)):
            optimiser = torch.optim.Adam(network.parameters(), lr=schedule.lr, fused=True)
