"""Training of heads on embeddings; weight decay is chosen by cross-validation on the train clips."""

import logging
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from ust.models.checkpoints import (
    SavedNetwork,
    build_initialized,
    count_parameters,
    save_network,
    update_metadata,
)
from ust.models.examples import Examples
from ust.models.outputs import output_labels
from ust.training.augmentation import select_outputs
from ust.training.config import FlatConfig, Recipe
from ust.training.cross_validation import cross_val_predict, fold_metadata, predict_probabilities
from ust.training.flat import flat_score
from ust.training.stagnation import Epoch
from ust.training.trainer import fit_classifier
from ust.training.work import TrainingContext, TrainingData
from ust.util.config import Count, Positive, Section, Seed, Weight
from ust.util.seeding import random_stream

log = logging.getLogger("ust")


class Heads(Section):
    """Settings of the recipe ``train_head``."""

    seed: Seed
    lr: Positive
    batch_size: Count
    max_epochs: Count
    weight_decay: Annotated[list[Weight], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)]
    calibrate: bool
    mixup: Weight
    cache_gib: Weight


class HeadConfig(FlatConfig):
    """A row of ``systems`` with this recipe."""

    architecture: Literal["head", "attention"]

    @property
    def has_folds(self) -> bool:
        """Whether training needs cross-validation, to choose the weight decay or to calibrate."""
        return len(self.weight_decay) > 1 or self.calibrate


def fit_head(system: Any, data: TrainingData, context: TrainingContext) -> None:
    """Train a head and save it with its out-of-fold predictions of the train clips.

    Each weight decay is cross-validated on the train clips, with folds that keep sensors apart. The one with
    the best out-of-fold score (mean of the levels) is used to train on all clips. Its out-of-fold predictions
    also give the calibration and the thresholds. The network of the last epoch is saved; the validation score
    is only recorded for the learning curve.

    Raises
    ------
    UserError
        If the train clips have fewer sensors than folds, or the loss is no longer finite.
    """
    labels, train = select_outputs(system, data.train, context.taxonomy)
    metadata = context.metadata | {"epoch": system.max_epochs, "outputs": system.outputs}
    decay = system.weight_decay[0]
    if system.has_folds:
        decay, predictions = choose_weight_decay(system, data.train, context)
        metadata |= fold_metadata(predictions, data.train, labels, system, context)
    score = flat_score(labels, data.validate.targets, context.taxonomy)

    def on_epoch(number: int, loss: float, network: torch.nn.Module) -> None:
        epoch = Epoch(
            number, loss, score(predict_probabilities(network, data.validate, context)), system.lr, 0, ()
        )
        context.callbacks.on_epoch("", epoch)

    network = _train(train, system, decay, context, context.name, on_epoch)
    metadata |= {"weight_decay": decay, "parameters": count_parameters(network)}
    save_network(
        context.out, SavedNetwork(network, system.architecture, system.config, labels, metadata, train.shapes)
    )
    update_metadata(context.out, epochs=system.max_epochs, converged=True)


def choose_weight_decay(
    system: Any, examples: Examples, context: TrainingContext
) -> tuple[float, np.ndarray]:
    """Return the weight decay with the best out-of-fold score, and its out-of-fold predictions.

    Parameters
    ----------
    system : SystemConfig
    examples : Examples
        With targets of all labels.
    context : TrainingContext

    Returns
    -------
    decay : float
    predictions : numpy.ndarray [shape=(n, outputs)]
    """
    labels = output_labels(system.outputs, context.taxonomy)
    targets = examples.targets
    truth = np.where(np.isnan(targets), targets, targets > 0.5)
    score = flat_score(labels, truth, context.taxonomy)
    candidates = []
    for decay in context.progress(system.weight_decay, total=len(system.weight_decay), description="folds"):
        predictions = predict_out_of_fold(system, examples, decay, context)
        scores = score(predictions)
        candidates.append((float(np.mean(list(scores.values()))), decay, predictions))
        text = "  ".join(f"{level} {value:.4f}" for level, value in scores.items())
        log.info("%s weight decay %g, out of fold  %s", context.name, decay, text)
    _, decay, predictions = max(candidates, key=lambda candidate: candidate[0])
    return decay, predictions


def predict_out_of_fold(
    system: Any,
    examples: Examples,
    decay: float,
    context: TrainingContext,
    *,
    share: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Return out-of-fold predictions of a head with the given weight decay.

    Parameters
    ----------
    system : SystemConfig
    examples : Examples
        With targets of all labels.
    decay : float
    context : TrainingContext
    share : float
        Share of the other folds' sensors to train on, for learning curves.
    seed : int
        Seed of the choice of these sensors.

    Returns
    -------
    numpy.ndarray [shape=(n, outputs)]
    """

    def train(rest: Examples, _: Examples, number: int) -> torch.nn.Module:
        if share < 1:
            sensors = rest.groups
            names = random_stream(seed, "share", str(number)).permutation(np.unique(sensors))
            kept = np.isin(sensors, names[: max(1, round(share * len(names)))])
            rest = rest.subset(kept, rest.targets[kept])
        return _train(rest, system, decay, context, f"{context.name} fold {number}")

    return cross_val_predict(system, select_outputs(system, examples, context.taxonomy)[1], context, train)


def _train(
    examples: Examples,
    system: Any,
    weight_decay: float,
    context: TrainingContext,
    name: str,
    on_epoch: Any = lambda *_: None,
) -> torch.nn.Module:
    """Train a new head on examples that fit into memory."""
    outputs = examples.targets.shape[1]
    network = build_initialized(
        system.architecture, system.config, outputs, examples.shapes, system.seed, name
    )
    network = network.to(context.device)
    ((batch, targets),) = examples.batches(len(examples), device=context.device)
    ((_, values),) = batch.items()
    steps = {key: getattr(system, key) for key in ("lr", "batch_size", "max_epochs", "seed")}
    fit_classifier(
        network,
        values,
        targets,
        name=name,
        weight_decay=weight_decay,
        mixup_alpha=system.mixup,
        on_epoch=on_epoch,
        **steps,
    )
    return network


RECIPE = Recipe(HeadConfig, Heads, fit_head)
