"""The trainer ``train_head``: heads on embeddings, with a weight decay chosen by cross-validation."""

import logging
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from ust.models.checkpoints import count_parameters, save_network
from ust.models.examples import Examples, TensorExamples
from ust.models.outputs import output_labels
from ust.models.registry import ARCHITECTURES
from ust.training.config import ContextRow, SystemConfig, SystemTrainer, TrainingSettings
from ust.training.context import (
    TrainingContext,
    TrainingData,
    build_for_training,
    complete_for_labels,
    select_outputs,
)
from ust.training.cross_validation import cross_val_predict, fold_metadata
from ust.training.train import flat_score
from ust.training.trainer import TrainingState, fit_classifier, monitor_scores
from ust.util.config import NonNegativeFloat, PositiveFloat, PositiveInt
from ust.util.seeding import random_stream

log = logging.getLogger("ust")
CHECKPOINT_EVERY = 20  # epochs, each of a fraction of a second


class HeadSettings(TrainingSettings):
    """Settings of the trainer ``train_head``."""

    lr: PositiveFloat = 0.003
    """Initial learning rate of AdamW, which falls to 0 as a cosine."""
    batch_size: PositiveInt = 64
    """Clips of a training step."""
    max_epochs: PositiveInt = 60
    """Number of epochs."""
    weight_decay: Annotated[list[NonNegativeFloat], Field(min_length=1)] = Field([1.0, 3.0, 10.0, 30.0])
    """Candidates, from which the folds choose."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Number of folds of the train clips, which keep sensors apart."""
    calibrate: bool = True
    """Fit calibration and thresholds on the out-of-fold predictions."""
    mixup: NonNegativeFloat = 0.0
    """Each example is mixed with another by a share from Beta(mixup, mixup); 0 for none."""

    @property
    def has_folds(self) -> bool:
        """Whether training needs cross-validation, to choose the weight decay or to calibrate."""
        return len(self.weight_decay) > 1 or self.calibrate


HeadConfig = SystemConfig[ContextRow, HeadSettings]


def fit_head(config: HeadConfig, data: TrainingData, context: TrainingContext) -> None:
    """Train a head and save it with its out-of-fold predictions of the train clips.

    Each weight decay is cross-validated on the train clips, with folds that keep sensors apart. The one with
    the best out-of-fold score (mean of the levels) is used to train on all clips. Its out-of-fold predictions
    also give the calibration and the thresholds. The network of the last epoch is saved; the validation score
    is only recorded for the learning curve.

    An architecture without epochs has no calibration either, as its likelihood gives both scale and shift.

    Raises
    ------
    UserError
        If the train clips have fewer sensors than folds, the loss is no longer finite, or settings of the
        architecture do not suit the labels.
    """
    settings, has_epochs = config.training, ARCHITECTURES[config.row.architecture].has_epochs
    labels, train = select_outputs(config.row.outputs, data.train, context.taxonomy)
    config = complete_for_labels(config, context)
    metadata = context.metadata | {"outputs": config.row.outputs}
    decay = settings.weight_decay[0]
    if settings.has_folds:
        decay, predictions = choose_weight_decay(config, data.train, context)
        metadata |= fold_metadata(
            predictions, data.train, labels, context, folds=settings.folds,
            calibrate=settings.calibrate and has_epochs,
        )  # fmt: skip

    score = flat_score(labels, data.validate.targets, context.taxonomy)
    network = _train(
        train, config, decay, context, context.name, monitor=monitor_scores(data.validate, score, 64),
        on_epoch=partial(context.callbacks.on_epoch, ""), state=context.read_state(context.name, ""),
    )  # fmt: skip
    metadata |= {"weight_decay": decay, "parameters": count_parameters(network), "converged": True}
    if has_epochs:
        metadata |= {"epoch": settings.max_epochs, "epochs": settings.max_epochs}
    save_network(context.out, context.describe_network(config, network, labels, train, metadata))


def choose_weight_decay(
    config: HeadConfig, examples: Examples, context: TrainingContext
) -> tuple[float, np.ndarray]:
    """Return the weight decay with the best out-of-fold score, and its out-of-fold predictions.

    Returns
    -------
    decay : float
    predictions : numpy.ndarray [shape=(n, outputs)]
    """
    labels, targets = output_labels(config.row.outputs, context.taxonomy), examples.targets
    truth = np.where(np.isnan(targets), targets, targets > 0.5)
    score = flat_score(labels, truth, context.taxonomy)
    decays = config.training.weight_decay
    candidates = []
    for decay in context.progress(decays, total=len(decays), description="folds"):
        predictions = predict_out_of_fold(config, examples, decay, context)
        scores = score(predictions)
        candidates.append((float(np.mean(list(scores.values()))), decay, predictions))
        text = "  ".join(f"{level} {value:.4f}" for level, value in scores.items())
        log.info("%s weight decay %g, out of fold  %s", context.name, decay, text)
    _, decay, predictions = max(candidates, key=lambda candidate: candidate[0])
    return decay, predictions


def predict_out_of_fold(
    config: HeadConfig,
    examples: Examples,
    decay: float,
    context: TrainingContext,
    *,
    share: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Return out-of-fold predictions of a head with the given weight decay.

    Returns
    -------
    numpy.ndarray [shape=(n, outputs)]
    """

    def train(rest: Examples, _: Examples, number: int) -> torch.nn.Module:
        name = f"{context.name} fold {number}"
        if share == 1:
            state = context.read_state(f"{name} weight decay {decay:g}")
            return _train(rest, config, decay, context, name, state=state)
        names = random_stream(seed, "share", str(number)).permutation(np.unique(rest.groups))
        kept = np.isin(rest.groups, names[: max(1, round(share * len(names)))])
        return _train(rest.subset(kept, rest.targets[kept]), config, decay, context, name)

    config = complete_for_labels(config, context)
    outputs = select_outputs(config.row.outputs, examples, context.taxonomy)[1]
    return cross_val_predict(config.training.folds, outputs, context, train)


def _train(
    examples: Examples,
    config: HeadConfig,
    weight_decay: float,
    context: TrainingContext,
    name: str,
    *,
    state: TrainingState | None = None,
    **options: Any,
) -> torch.nn.Module:
    """Train a new head on examples that fit into memory; no epoch is chosen."""
    settings = config.training
    network = build_for_training(config, examples.targets.shape[1], name, examples).to(context.device)
    ((inputs, targets),) = examples.batches(len(examples), device=context.device)
    if not ARCHITECTURES[config.row.architecture].has_epochs:
        network.fit(*inputs.values(), targets, weight_decay=weight_decay, clips=len(set(examples.clips)))
        return network
    fit_classifier(
        network, TensorExamples(inputs, targets), name=name, seed=settings.seed, lr=settings.lr,
        weight_decay=weight_decay, batch_size=settings.batch_size, max_epochs=settings.max_epochs,
        mixup=settings.mixup, mode=None, state=state or TrainingState(), checkpoint_every=CHECKPOINT_EVERY,
        **options,
    )  # fmt: skip
    return network


TRAINER = SystemTrainer(
    ContextRow, HeadSettings, fit_head, architectures=("head", "attention", "audioset_head")
)
