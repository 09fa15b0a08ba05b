"""Fine-tuning a pretrained network: its head first, on embeddings as they are, then all of it.

A head that is new at the start of fine-tuning distorts the features it is given; one that has been fitted
before does not (Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-
Distribution, ICLR 2022). What is kept lies between both: halfway there a network keeps more of what AudioSet
taught it of other recordings (WiSE-FT: Wortsman et al., Robust Fine-Tuning of Zero-Shot Models, CVPR 2022).
Batch norms keep the statistics of AudioSet: a batch of a small city would give them worse ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ust.features.efficientat.weights import load_network, width_of
from ust.features.feature import FEATURE_FILE
from ust.models.checkpoints import SavedNetwork, build_new, parameter_count, save_network, update_metadata
from ust.models.examples import Examples, batch_bounds, predict
from ust.models.outputs import output_labels
from ust.training.augmentation import mixup, overlay, random_gain, select_outputs, spec_augment, time_roll
from ust.training.config import FlatConfig, Recipe
from ust.training.cross_validation import cross_val_predict, fold_metadata, predict_probabilities
from ust.training.flat import flat_score
from ust.training.losses import sample_epoch, tagging_loss, unknown_columns
from ust.training.schedules import EarlyStopping, warmup_cosine
from ust.training.stagnation import Epoch
from ust.training.trainer import fit_classifier
from ust.training.work import TrainingContext, TrainingData
from ust.util.config import Count, Positive, Rate, Section, Seed, Share, Weight, Whole
from ust.util.device import seed_torch
from ust.util.documents import read_json
from ust.util.errors import UserError
from ust.util.seeding import random_stream


class FineTuning(Section):
    """The recipe's section of params.yaml."""

    seed: Seed
    head_lr: Positive
    head_weight_decay: Weight
    head_epochs: Count
    lr: Positive
    weight_decay: Weight
    warm_up: Rate
    batch_size: Annotated[int, Field(ge=2)]
    max_epochs: Count
    mixup: Weight
    overlay: Share
    gain_db: Weight
    roll: bool
    mask_bands: Whole
    mask_frames: Whole
    average: Rate
    interpolate: Share
    focal_gamma: Weight
    label_smoothing: Rate
    mask_unknown: bool
    balance: Weight
    folds: Whole
    stop_patience: Whole
    calibrate: bool
    cache_gib: Weight

    @model_validator(mode="after")
    def _stops_by_folds(self) -> "FineTuning":
        if self.stop_patience and self.folds < 2:
            raise ValueError(
                f"stop_patience is {self.stop_patience}, but folds is {self.folds}: training stops by the "
                "clips of a fold; set folds to 2 or more, or stop_patience to 0"
            )
        return self


class FinetuneConfig(FlatConfig):
    """A row of ``systems`` of this recipe."""

    architecture: Literal["mobilenet"]

    @property
    def has_folds(self) -> bool:
        """Whether there are folds to hold out."""
        return self.folds > 1

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check, too, that what is hidden of a log-mel, and its windows, are no more than there is of it.

        Raises
        ------
        ValueError
            Saying what should be changed.
        """
        super().check_shapes(shapes)
        bands, frames = shapes["log_mel"]
        for name, most, what in (("mask_bands", bands, "bands"), ("mask_frames", frames, "frames")):
            if getattr(self, name) > most:
                given = getattr(self, name)
                raise ValueError(f"{name} is {given}, should be at most {most}, the {what} of the feature")
        if self.windows > frames // 2:  # half a window is the step from one to the next
            raise ValueError(
                f"windows is {self.windows}, should be at most {frames // 2}: the feature has {frames} "
                "frames, a window at least two"
            )


def fit_finetuned(system: Any, data: TrainingData, work: TrainingContext) -> None:
    """Fine-tune a pretrained network and write it as it is after the last epoch: validate chooses nothing.

    With ``stop_patience`` the last epoch is the median of those at which the trainings without a fold were
    best on that fold.

    Raises
    ------
    UserError
        If its weights are missing or of another width, or the loss is no longer finite.
    """
    labels, train = select_outputs(system, data.train, work.taxonomy)
    metadata = work.metadata | {"outputs": system.outputs}
    epochs = system.max_epochs
    if system.has_folds:
        best = []

        def of_fold(rest: Examples, fold: Examples, number: int) -> torch.nn.Module:
            stopping = _Stopping(EarlyStopping(system.stop_patience), fold) if system.stop_patience else None
            network = _train(rest, system, work, f"{work.name} fold {number}", stopping=stopping)
            best.append(stopping.epoch if stopping else system.max_epochs)
            return network

        metadata |= fold_metadata(
            cross_val_predict(system, train, work, of_fold), data.train, labels, system, work
        )
        epochs = int(np.median(best))
    score = flat_score(labels, data.validate.targets, work.taxonomy)

    def on_epoch(number: int, loss: float, lr: float, network: torch.nn.Module) -> None:
        found = score(predict_probabilities(network, data.validate, work))
        work.listener.on_epoch("", Epoch(number, loss, found, lr, 0, ()))

    network = _train(train, system, work, work.name, on_epoch, epochs=epochs)
    metadata |= {"epoch": epochs, "parameters": parameter_count(network)}
    save_network(
        work.out, SavedNetwork(network, system.architecture, system.config, labels, metadata, train.shapes)
    )
    update_metadata(work.out, epochs=epochs, converged=True)


@dataclass
class _Stopping:
    """Early stopping of a network by clips that it does not learn from.

    Attributes
    ----------
    rule : EarlyStopping
    held : Examples
    best : dict of str to torch.Tensor
        The weights with which the loss was lowest.
    epoch : int
        When that was.
    """

    rule: EarlyStopping
    held: Examples
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    epoch: int = 0

    def step(self, network: torch.nn.Module, number: int, work: TrainingContext) -> bool:
        """Take note of an epoch; whether to stop."""
        found = torch.from_numpy(predict_probabilities(network, self.held, work))
        if self.rule.step(functional.binary_cross_entropy(found, torch.from_numpy(self.held.targets)).item()):
            self.best, self.epoch = _copy_weights(network), number
        return self.rule.exhausted


def _train(
    train: Examples,
    system: Any,
    work: TrainingContext,
    name: str,
    on_epoch: Any = lambda *_: None,
    *,
    epochs: int | None = None,
    stopping: _Stopping | None = None,
) -> torch.nn.Module:
    """A network of that name, with draws of its own: its head fitted, then all of it trained.

    It learns for all its epochs, for the first of them, or until it should stop; then it is as at its best.
    """
    network = _pretrained(system, train, work, name)
    _fit_head(network, train, system, work, name)
    start = _copy_weights(network)
    for number, mean, lr, kept in _epochs(network, train, system, work, name):
        on_epoch(number, mean, lr, kept)
        if number == epochs or (stopping and stopping.step(kept, number, work)):
            break
    if stopping:
        kept.load_state_dict(stopping.best)
    return _interpolate_weights(start, kept, system.interpolate)


def _pretrained(system: Any, examples: Examples, work: TrainingContext, name: str) -> torch.nn.Module:
    """The network with the features that the stage weights wrote, and a new head."""
    (feature,) = system.features
    if work.pretrained is None:
        raise UserError(f"{work.name} is fine-tuned: give --pretrained, the folder of the stages weights")
    folder = work.pretrained / feature
    weights = read_json(folder / FEATURE_FILE, made_by=f"weights@{feature}").get("weights")
    if weights is None:
        raise UserError(f"{work.name}: the feature {feature} has no network to fine-tune; take mn_logmel")
    if width_of(weights) != system.width:
        raise UserError(
            f"{work.name}: width is {system.width:g}, but {feature} has {weights}, "
            f"of width {width_of(weights):g}; set the row's width to that"
        )
    outputs = examples.targets.shape[1]
    network = build_new(system.architecture, system.config, outputs, examples.shapes, system.seed, name)
    network.take(load_network(folder, system.width))
    return network.to(work.device, memory_format=torch.channels_last)


def _fit_head(
    network: torch.nn.Module, examples: Examples, system: Any, work: TrainingContext, name: str
) -> None:
    """Fit the head to embeddings of the train clips by the pretrained features."""
    found = predict(network.eval().embed, examples, batch_size=64, device=work.device)
    values = torch.from_numpy(found).to(work.device)
    targets = torch.from_numpy(examples.targets).to(work.device)
    fit_classifier(
        network.head, values, targets, name=f"{name} head", seed=system.seed, lr=system.head_lr,
        weight_decay=system.head_weight_decay, batch_size=64, max_epochs=system.head_epochs,
    )  # fmt: skip


def _epochs(
    network: torch.nn.Module, examples: Examples, system: Any, work: TrainingContext, name: str
) -> Iterator[tuple[int, float, float, torch.nn.Module]]:
    """Train all of it, at a rate that rises to `lr` and falls as a cosine.

    Yields
    ------
    number : int
        Of the epoch that is over.
    loss, lr : float
    kept : torch.nn.Module
        What is to be kept of it.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=system.lr, weight_decay=system.weight_decay)
    bounds = batch_bounds(len(examples), system.batch_size)
    steps = system.max_epochs * len(bounds)
    labels = output_labels(system.outputs, work.taxonomy)
    terms = {
        "gamma": system.focal_gamma,
        "smoothing": system.label_smoothing,
        "unknown": unknown_columns(labels, work.taxonomy) if system.mask_unknown else (),
    }
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine(step, steps, system.warm_up)
    )
    averaged = None
    if system.average:
        averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(system.average))
    kept = averaged.module if averaged else network
    shuffle, draws = random_stream(system.seed, "shuffle", name), random_stream(system.seed, "draws", name)
    seed_torch(system.seed, "dropout", name)
    for number in work.progress(
        range(1, system.max_epochs + 1), total=system.max_epochs, description="epochs", unit="epoch"
    ):
        network.train()
        network.pretrained.eval()  # batch norms stay as they are
        total = 0.0
        order = sample_epoch(examples.targets, system.balance, shuffle)
        for batch, y in examples.batches(system.batch_size, order=order, device=work.device):
            x, y = _augment(batch["log_mel"].float(), y, system, draws)
            found = tagging_loss(network(x), y, **terms)
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            (lr,) = schedule.get_last_lr()
            schedule.step()
            if averaged:
                averaged.update_parameters(network)
            total += found.item() * len(y)
        if not np.isfinite(total):
            raise UserError(f"{name}: the loss is no longer finite in epoch {number}; lower lr")
        yield number, total / len(examples), lr, kept


def _copy_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its weights as they are now."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def _interpolate_weights(
    start: dict[str, torch.Tensor], network: torch.nn.Module, share: float
) -> torch.nn.Module:
    """A network with weights on the line from others to its own; 1 leaves its own."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.lerp(start[name], value, share))
    return network


def _augment(
    x: torch.Tensor, y: torch.Tensor, system: Any, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Examples as they are trained with."""
    if system.roll:
        x = time_roll(x, rng)
    x, y = overlay(random_gain(x, system.gain_db, rng), y, system.overlay, rng)
    x, y = mixup(x, y, system.mixup, rng)
    return spec_augment(x, system.mask_bands, system.mask_frames, rng), y


RECIPE = Recipe(FinetuneConfig, FineTuning, fit_finetuned)
