"""The trainer ``train_head``: heads on embeddings, with a weight decay chosen by cross-validation."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from ust.evaluation.calibration import Calibration
from ust.models.audioset_head import AudioSetHead, complete_head_config
from ust.models.checkpoints import count_parameters, save_network, update_metadata
from ust.models.examples import Examples, TensorExamples, predict
from ust.models.outputs import output_labels
from ust.training.augmentation import select_outputs
from ust.training.config import ContextRow, System, SystemTrainer, TrainingSettings
from ust.training.context import TrainingContext, TrainingData, build_for_training
from ust.training.cross_validation import cross_val_predict, fold_metadata
from ust.training.train import flat_score
from ust.training.trainer import Epoch, TrainingState, fit_classifier, monitor_scores
from ust.util.config import Count, Positive, Section, Weight
from ust.util.errors import UserError
from ust.util.seeding import random_stream

log = logging.getLogger("ust")
CHECKPOINT_EVERY = 20  # epochs, each of a fraction of a second


class HeadSettings(TrainingSettings):
    """Settings of the trainer ``train_head``."""

    lr: Positive = 0.003
    """Initial learning rate of AdamW, which falls to 0 as a cosine."""
    batch_size: Count = 64
    """Clips of a training step."""
    max_epochs: Count = 60
    """Number of epochs."""
    weight_decay: Annotated[list[Weight], Field(min_length=1)] = Field([1.0, 3.0, 10.0, 30.0])
    """Candidates, from which the folds choose."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Number of folds of the train clips, which keep sensors apart."""
    calibrate: bool = True
    """Fit calibration and thresholds on the out-of-fold predictions."""
    mixup: Weight = 0.0
    """Each example is mixed with another by a share from Beta(mixup, mixup); 0 for none."""
    prior_clips: Weight = 50.0
    """Weight of the prior of an ``audioset_head``, in train clips: its share is this / (this + clips)."""

    @property
    def has_folds(self) -> bool:
        """Whether training needs cross-validation, to choose the weight decay or to calibrate."""
        return len(self.weight_decay) > 1 or self.calibrate

    def check(self, network: Section, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that an ``audioset_head`` is calibrated; else raise ValueError."""
        if isinstance(network, AudioSetHead.Config) and not self.calibrate:
            raise ValueError("calibrate is false, should be true: it weighs the head and its prior")


HeadSystem = System[ContextRow, HeadSettings]


def fit_head(system: HeadSystem, data: TrainingData, context: TrainingContext) -> None:
    """Train a head and save it with its out-of-fold predictions of the train clips.

    Each weight decay is cross-validated on the train clips, with folds that keep sensors apart. The one with
    the best out-of-fold score (mean of the levels) is used to train on all clips. Its out-of-fold predictions
    also give the calibration and the thresholds. For the architecture ``audioset_head`` they weigh head and
    prior instead, which becomes a part of the network. The network of the last epoch is saved; the validation
    score is only recorded for the learning curve.

    Raises
    ------
    UserError
        If the train clips have fewer sensors than folds, the loss is no longer finite, or ``classes`` of the
        architecture ``audioset_head`` are wrong.
    """
    settings = system.training
    labels, train = select_outputs(system.row.outputs, data.train, context.taxonomy)
    prior = None
    if system.row.architecture == "audioset_head":
        system, prior = _prepare_prior(system, labels, train, context)
    metadata = context.metadata | {"epoch": settings.max_epochs, "outputs": system.row.outputs}
    decay = settings.weight_decay[0]
    if settings.has_folds:
        decay, predictions = choose_weight_decay(system, data.train, context)
        metadata |= fold_metadata(
            predictions, data.train, labels, context, folds=settings.folds, calibrate=settings.calibrate,
            prior=prior, prior_clips=settings.prior_clips,
        )  # fmt: skip

    def on_epoch(epoch: Epoch) -> None:
        context.callbacks.on_epoch("", epoch)

    score = flat_score(labels, data.validate.targets, context.taxonomy)
    network = _train(
        train, system, decay, context, context.name, monitor=monitor_scores(data.validate, score, 64),
        on_epoch=on_epoch, state=context.state(context.name, ""),
    )  # fmt: skip
    if prior is not None:
        fitted = Calibration.from_dict(metadata.pop("calibration"))
        network.combine(fitted.scale, fitted.prior_scale, fitted.shift)
    metadata |= {"weight_decay": decay, "parameters": count_parameters(network)}
    save_network(context.out, context.describe(system, network, labels, train, metadata))
    update_metadata(context.out, epochs=settings.max_epochs, converged=True)


def _prepare_prior(
    system: HeadSystem, labels: list[str], examples: Examples, context: TrainingContext
) -> tuple[HeadSystem, np.ndarray]:
    """Return the system with the AudioSet classes of its labels, and the prior's logits of the examples."""
    try:
        config = complete_head_config(system.network, context.taxonomy, labels)
    except ValueError as error:
        raise UserError(f"systems.{context.name}.{error}") from None
    network = AudioSetHead(config, len(labels), examples.shapes).to(context.device)
    logits = predict(network.prior, examples.audio, batch_size=64, device=context.device)
    return replace(system, network=config), logits


def choose_weight_decay(
    system: HeadSystem, examples: Examples, context: TrainingContext
) -> tuple[float, np.ndarray]:
    """Return the weight decay with the best out-of-fold score, and its out-of-fold predictions.

    Returns
    -------
    decay : float
    predictions : numpy.ndarray [shape=(n, outputs)]
    """
    labels, targets = output_labels(system.row.outputs, context.taxonomy), examples.targets
    truth = np.where(np.isnan(targets), targets, targets > 0.5)
    score = flat_score(labels, truth, context.taxonomy)
    decays = system.training.weight_decay
    candidates = []
    for decay in context.progress(decays, total=len(decays), description="folds"):
        predictions = predict_out_of_fold(system, examples, decay, context)
        scores = score(predictions)
        candidates.append((float(np.mean(list(scores.values()))), decay, predictions))
        text = "  ".join(f"{level} {value:.4f}" for level, value in scores.items())
        log.info("%s weight decay %g, out of fold  %s", context.name, decay, text)
    _, decay, predictions = max(candidates, key=lambda candidate: candidate[0])
    return decay, predictions


def predict_out_of_fold(
    system: HeadSystem,
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
            state = context.state(f"{name} weight decay {decay:g}")
            return _train(rest, system, decay, context, name, state=state)
        names = random_stream(seed, "share", str(number)).permutation(np.unique(rest.groups))
        kept = np.isin(rest.groups, names[: max(1, round(share * len(names)))])
        return _train(rest.subset(kept, rest.targets[kept]), system, decay, context, name)

    outputs = select_outputs(system.row.outputs, examples, context.taxonomy)[1]
    return cross_val_predict(system.training.folds, outputs, context, train)


def _train(
    examples: Examples,
    system: HeadSystem,
    weight_decay: float,
    context: TrainingContext,
    name: str,
    *,
    state: TrainingState | None = None,
    **options: Any,
) -> torch.nn.Module:
    """Train a new head on examples that fit into memory; validate chooses no epoch."""
    settings = system.training
    network = build_for_training(system, examples.targets.shape[1], name, examples).to(context.device)
    ((inputs, targets),) = examples.batches(len(examples), device=context.device)
    fit_classifier(
        network, TensorExamples(inputs, targets), name=name, seed=settings.seed, lr=settings.lr,
        weight_decay=weight_decay, batch_size=settings.batch_size, max_epochs=settings.max_epochs,
        mixup=settings.mixup, best=None, state=state or TrainingState(), checkpoint_every=CHECKPOINT_EVERY,
        **options,
    )  # fmt: skip
    return network


TRAINER = SystemTrainer(
    ContextRow, HeadSettings, fit_head, architectures=("head", "attention", "audioset_head")
)
