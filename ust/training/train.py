"""The trainer ``train``: one network, as in the report (section 5), with a checkpoint for each level.

With few epochs the report's schedule never changes the rate; linear warm-up with cosine decay then gives
better results.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from ust.annotations.taxonomy import Taxonomy
from ust.evaluation.metrics import coarse_counts, compute_scores, fine_counts
from ust.models.checkpoints import count_parameters, save_network, update_metadata
from ust.models.examples import Examples
from ust.models.outputs import complete_labels
from ust.training import distributed
from ust.training.config import ContextRow, SystemConfig, SystemTrainer, TrainingSettings
from ust.training.context import TrainingContext, TrainingData, select_outputs
from ust.training.losses import weighted_cross_entropy
from ust.training.schedules import CosineSchedule, Schedule, StagnationSchedule
from ust.training.trainer import Epoch, Trainer, epochs_since_best, monitor_scores
from ust.util.config import (
    Fraction,
    FractionBelowOne,
    NonNegativeInt,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Precision,
)

Score = Callable[[np.ndarray], dict[str, float]]
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "rmsprop": torch.optim.RMSprop,
}


class NetworkSettings(TrainingSettings):
    """Settings shared by the trainers of networks of log-mels."""

    lr: PositiveFloat = 0.004
    """Initial learning rate. The report's is 0.01."""
    batch_size: Annotated[int, Field(ge=2)] = 8
    """Clips of a training step. The report's are 32."""
    max_epochs: PositiveInt = 6
    """Number of epochs, at most. The report's are hundreds."""
    optimizer: Literal[tuple(OPTIMIZERS)] = "adam"
    """Optimizer of PyTorch."""
    pos_weight_power: Fraction = 0.1
    """The positive terms of the loss are weighted by (negatives / positives) to this power."""
    precision: Precision = "float32"
    """"bfloat16" computes the forward pass in mixed precision, on a GPU or a CPU with AVX-512 BF16 or AMX."""


class TrainSettings(NetworkSettings):
    """Settings of the trainers ``train`` and ``train_hierarchical``."""

    schedule: Literal["stagnation", "cosine"] = "cosine"
    """"stagnation" is the report's: reduce the rate without a new best score, restart warm."""
    warm_up: FractionBelowOne = 0.1
    """Schedule cosine: share of the steps in which the rate rises to `lr`, before it falls to 0."""
    patience: NonNegativeInt = 10
    """Schedule stagnation: epochs without a new best score before the rate is reduced."""
    reduce_factor: OpenFraction = 0.1
    """Schedule stagnation: initial factor of the reduction."""
    min_lr: PositiveFloat = 1e-6
    """Schedule stagnation: a rate at or below returns to `lr`."""
    factor_step: FractionBelowOne = 0.1
    """Schedule stagnation: added to the factor at each restart, to at most 0.9."""
    restart: Literal["reached", "passed"] = "reached"
    """"reached" is the report's text; "passed" its authors' code, which also trains at `min_lr`."""

    def build_schedule(self) -> Schedule:
        """Build the learning-rate schedule."""
        if self.schedule == "cosine":
            return CosineSchedule(self.lr, self.warm_up, self.max_epochs)
        return StagnationSchedule(
            self.lr, self.patience, self.reduce_factor, self.min_lr, self.factor_step, self.restart
        )


def fit_flat(
    config: SystemConfig[ContextRow, TrainSettings],
    data: TrainingData,
    context: TrainingContext,
    **options: Any,
) -> None:
    """Train a network and save, for each level, the checkpoint with the best validation score.

    Parameters
    ----------
    config : SystemConfig
    data : TrainingData
    context : TrainingContext
    **options
        Further arguments of `Trainer`, such as an augmentation.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    labels, train = select_outputs(config.row.outputs, data.train, context.taxonomy)
    network = context.build_network(config, len(labels), context.name, train)
    metadata = context.metadata | {"outputs": config.row.outputs, "parameters": count_parameters(network)}

    def on_epoch(epoch: Epoch) -> None:
        for level in epoch.best:
            chosen_by = {"epoch": epoch.number, f"{level}_micro_auprc": epoch.scores[level]}
            saved = context.describe_network(config, network, labels, train, chosen_by | metadata)
            save_network(context.out / level, saved)
        context.callbacks.on_epoch("", epoch)

    score = flat_score(labels, data.validate.targets, context.taxonomy)
    epochs = network_trainer(
        network, train, config.training, context, name=context.name,
        schedule=config.training.build_schedule(),
        monitor=monitor_scores(data.validate, score, 2 * config.training.batch_size), on_epoch=on_epoch,
        state=context.read_state(context.name, ""), **options,
    ).fit()  # fmt: skip
    if distributed.rank():
        return  # only the first process writes checkpoints
    for level in epochs[0].scores:
        converged = epochs_since_best(epochs, level) > config.training.patience
        update_metadata(context.out / level, epochs=len(epochs), converged=converged)


def network_trainer(
    network: torch.nn.Module,
    train: Examples,
    settings: NetworkSettings,
    context: TrainingContext,
    **options: Any,
) -> Trainer:
    """Return the trainer of a network, with the optimizer and the loss of the settings."""
    return Trainer(
        network=network, examples=train,
        loss=weighted_cross_entropy(train.targets, settings.pos_weight_power, context.device),
        optimizer=OPTIMIZERS[settings.optimizer], batch_size=settings.batch_size,
        max_epochs=settings.max_epochs, seed=settings.seed, device=context.device,
        precision=settings.precision, progress=context.progress, **options,
    )  # fmt: skip


def flat_score(labels: list[str], truth: np.ndarray, taxonomy: Taxonomy) -> Score:
    """Return a function from a network's outputs to the official micro AUPRC of each level that it predicts.

    Parameters
    ----------
    labels : list of str
        Labels of the network's outputs.
    truth : numpy.ndarray [shape=(n, all labels)]
        Ground truth, coarse first; NaN where a label is not known. Fine labels may be missing if the network
        does not predict them.
    taxonomy : Taxonomy
    """
    k = len(taxonomy.coarse)
    known = ~np.isnan(truth)
    has_fine = bool(set(labels) & set(taxonomy.fine))

    def score_outputs(outputs: np.ndarray) -> dict[str, float]:
        # Rounded as in prediction files, so that ties are the same.
        completed = complete_labels(torch.tensor(outputs), labels, taxonomy).numpy()
        predicted = completed.astype(np.float64).round(6)[:, : truth.shape[1]]
        predicted = np.where(known, predicted, 0)  # no threshold counts a 0
        counts = {"coarse": coarse_counts(truth[:, :k], predicted[:, :k], taxonomy)}
        if has_fine:
            counts["fine"] = fine_counts(truth[:, k:], predicted[:, k:], taxonomy)
        return {
            level: compute_scores(level_counts, taxonomy.categories(level)).micro_auprc
            for level, level_counts in counts.items()
        }

    return score_outputs


TRAINER = SystemTrainer(ContextRow, TrainSettings, fit_flat, several_processes=True)
