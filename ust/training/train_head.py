"""Training heads on embeddings: the weight decay is chosen by folds of the train clips, never by validate."""

import logging
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from ust.models.checkpoints import SavedNetwork, build_new, parameter_count, save_network, update_metadata
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
    """The recipe's section of params.yaml."""

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
    """A row of ``systems`` of this recipe."""

    architecture: Literal["head", "attention"]

    @property
    def has_folds(self) -> bool:
        """Whether there is something that out-of-fold predictions decide."""
        return len(self.weight_decay) > 1 or self.calibrate


def fit_head(system: Any, data: TrainingData, work: TrainingContext) -> None:
    """Train a head and write it, and its out-of-fold predictions of the train clips.

    Each weight decay is tried on folds of the train clips, which keep sensors (``sensor_id``) apart; the one
    whose out-of-fold predictions score best, coarse and fine together, is used on all of them. Those
    predictions also say how the head's probabilities are calibrated, and each label's threshold. The network
    of the last epoch is kept: validate chooses nothing, and is only scored for the learning curve.

    Raises
    ------
    UserError
        If the train clips are of fewer sensors than there are to be folds, or the loss is no longer finite.
    """
    labels, train = select_outputs(system, data.train, work.taxonomy)
    metadata = work.metadata | {"epoch": system.max_epochs, "outputs": system.outputs}
    decay = system.weight_decay[0]
    if system.has_folds:
        decay, held = choose_decay(system, data.train, work)
        metadata |= fold_metadata(held, data.train, labels, system, work)
    score = flat_score(labels, data.validate.targets, work.taxonomy)

    def on_epoch(number: int, loss: float, network: torch.nn.Module) -> None:
        epoch = Epoch(
            number, loss, score(predict_probabilities(network, data.validate, work)), system.lr, 0, ()
        )
        work.listener.on_epoch("", epoch)

    network = _train(train, system, decay, work, work.name, on_epoch)
    metadata |= {"weight_decay": decay, "parameters": parameter_count(network)}
    save_network(
        work.out, SavedNetwork(network, system.architecture, system.config, labels, metadata, train.shapes)
    )
    update_metadata(work.out, epochs=system.max_epochs, converged=True)


def choose_decay(system: Any, examples: Examples, work: TrainingContext) -> tuple[float, np.ndarray]:
    """The weight decay whose out-of-fold predictions score best, and those predictions.

    Parameters
    ----------
    system : System
    examples : Examples
        With targets of all labels.
    work : Work

    Returns
    -------
    decay : float
    held : numpy.ndarray [shape=(n, outputs)]
    """
    labels = output_labels(system.outputs, work.taxonomy)
    of = flat_score(labels, examples.targets > 0.5, work.taxonomy)
    tried = []
    for decay in work.progress(system.weight_decay, total=len(system.weight_decay), description="folds"):
        held = out_of_fold(system, examples, decay, work)
        found = of(held)
        tried.append((float(np.mean(list(found.values()))), decay, held))
        text = "  ".join(f"{level} {value:.4f}" for level, value in found.items())
        log.info("%s weight decay %g, out of fold  %s", work.name, decay, text)
    _, decay, held = max(tried, key=lambda each: each[0])
    return decay, held


def out_of_fold(
    system: Any, examples: Examples, decay: float, work: TrainingContext, *, share: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Predictions of each fold by a head that learnt from the others.

    Parameters
    ----------
    system : System
    examples : Examples
        With targets of all labels.
    decay : float
    work : Work
    share : float
        Of the other folds' sensors that it learns from.
    seed : int
        Of which they are.

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
        return _train(rest, system, decay, work, f"{work.name} fold {number}")

    return cross_val_predict(system, select_outputs(system, examples, work.taxonomy)[1], work, train)


def _train(
    examples: Examples,
    system: Any,
    weight_decay: float,
    work: TrainingContext,
    name: str,
    on_epoch: Any = lambda *_: None,
) -> torch.nn.Module:
    """A head trained from the start on examples that fit in memory."""
    outputs = examples.targets.shape[1]
    network = build_new(system.architecture, system.config, outputs, examples.shapes, system.seed, name)
    network = network.to(work.device)
    ((batch, targets),) = examples.batches(len(examples), device=work.device)
    ((_, values),) = batch.items()
    steps = {key: getattr(system, key) for key in ("lr", "batch_size", "max_epochs", "mixup", "seed")}
    fit_classifier(network, values, targets, name=name, weight_decay=weight_decay, on_epoch=on_epoch, **steps)
    return network


RECIPE = Recipe(HeadConfig, Heads, fit_head)
