"""Fine-tuning of a pretrained network: first its head on frozen embeddings, then all layers.

A randomly initialised head distorts the pretrained features at the start of fine-tuning; a fitted head does
not (Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR
2022). The saved weights are interpolated between the weights before and after fine-tuning, which keeps more
of the pretrained network's generalisation (WiSE-FT: Wortsman et al., Robust Fine-Tuning of Zero-Shot Models,
CVPR 2022). Batch norms keep their AudioSet statistics, because batches of a small data set estimate them
poorly.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ust.features.efficientat.weights import load_network, network_width
from ust.features.feature import NETWORK_FILE
from ust.models.checkpoints import (
    SavedNetwork,
    build_initialized,
    count_parameters,
    save_network,
    update_metadata,
)
from ust.models.examples import Examples, batch_bounds, predict
from ust.models.outputs import output_labels
from ust.training.augmentation import (
    apply_mixup,
    overlay,
    random_gain,
    select_outputs,
    spec_augment,
    time_roll,
)
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

NETWORK = "efficientat"


class FineTuning(Section):
    """Settings of the recipe ``train_finetune``."""

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
        """Check that early stopping has folds to monitor."""
        if self.stop_patience and self.folds < 2:
            raise ValueError(
                f"stop_patience is {self.stop_patience}, but folds is {self.folds}: training stops by the "
                "clips of a fold; set folds to 2 or more, or stop_patience to 0"
            )
        return self


class FinetuneConfig(FlatConfig):
    """A row of ``systems`` with this recipe."""

    architecture: Literal["mobilenet"]

    @property
    def has_folds(self) -> bool:
        """Whether training uses cross-validation."""
        return self.folds > 1

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Also check that masks and windows are no larger than the log-mel.

        Raises
        ------
        ValueError
            Naming the parameter to change.
        """
        super().check_shapes(shapes)
        bands, frames = shapes["log_mel"]
        for name, limit, axis in (("mask_bands", bands, "bands"), ("mask_frames", frames, "frames")):
            if getattr(self, name) > limit:
                value = getattr(self, name)
                raise ValueError(f"{name} is {value}, should be at most {limit}, the {axis} of the feature")
        if self.windows > frames // 2:  # the step between windows is half a window
            raise ValueError(
                f"windows is {self.windows}, should be at most {frames // 2}: the feature has {frames} "
                "frames, a window at least two"
            )


def fit_finetuned(system: Any, data: TrainingData, context: TrainingContext) -> None:
    """Fine-tune a pretrained network and save it after the last epoch; validate does not choose the epoch.

    With ``stop_patience``, the number of epochs is the median over folds of the best epoch on the held-out
    fold.

    Raises
    ------
    UserError
        If the pretrained weights are missing or have another width, or the loss is no longer finite.
    """
    labels, train = select_outputs(system, data.train, context.taxonomy)
    metadata = context.metadata | {"outputs": system.outputs}
    epochs = system.max_epochs
    if system.has_folds:
        best = []

        def train_fold(rest: Examples, fold: Examples, number: int) -> torch.nn.Module:
            stopping = _Stopping(EarlyStopping(system.stop_patience), fold) if system.stop_patience else None
            network = _train(rest, system, context, f"{context.name} fold {number}", stopping=stopping)
            best.append(stopping.epoch if stopping else system.max_epochs)
            return network

        metadata |= fold_metadata(
            cross_val_predict(system, train, context, train_fold), data.train, labels, system, context
        )
        epochs = int(np.median(best))
    score = flat_score(labels, data.validate.targets, context.taxonomy)

    def on_epoch(number: int, loss: float, lr: float, network: torch.nn.Module) -> None:
        scores = score(predict_probabilities(network, data.validate, context))
        context.callbacks.on_epoch("", Epoch(number, loss, scores, lr, 0, ()))

    network = _train(train, system, context, context.name, on_epoch, epochs=epochs)
    metadata |= {"epoch": epochs, "parameters": count_parameters(network)}
    save_network(
        context.out, SavedNetwork(network, system.architecture, system.config, labels, metadata, train.shapes)
    )
    update_metadata(context.out, epochs=epochs, converged=True)


@dataclass
class _Stopping:
    """Early stopping on held-out examples, which keeps the best weights.

    Attributes
    ----------
    rule : EarlyStopping
    held_out : Examples
    best : dict of str to torch.Tensor
        The weights with the lowest loss.
    epoch : int
        The epoch with the lowest loss.
    """

    rule: EarlyStopping
    held_out: Examples
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    epoch: int = 0

    def step(self, network: torch.nn.Module, number: int, context: TrainingContext) -> bool:
        """Evaluate an epoch; return whether to stop."""
        predictions = torch.from_numpy(predict_probabilities(network, self.held_out, context))
        if self.rule.step(
            functional.binary_cross_entropy(predictions, torch.from_numpy(self.held_out.targets)).item()
        ):
            self.best, self.epoch = _copy_weights(network), number
        return self.rule.exhausted


def _train(
    train: Examples,
    system: Any,
    context: TrainingContext,
    name: str,
    on_epoch: Any = lambda *_: None,
    *,
    epochs: int | None = None,
    stopping: _Stopping | None = None,
) -> torch.nn.Module:
    """Train a network whose random streams depend on its name: fit the head, then train all layers.

    Training ends after `epochs`, or by `stopping`, which restores the best weights.
    """
    network = _load_pretrained(system, train, context, name)
    _fit_head(network, train, system, context, name)
    start = _copy_weights(network)
    for number, mean, lr, averaged_network in _epochs(network, train, system, context, name):
        on_epoch(number, mean, lr, averaged_network)
        if number == epochs or (stopping and stopping.step(averaged_network, number, context)):
            break
    if stopping:
        averaged_network.load_state_dict(stopping.best)
    return _interpolate_weights(start, averaged_network, system.interpolate)


def _load_pretrained(system: Any, examples: Examples, context: TrainingContext, name: str) -> torch.nn.Module:
    """Build the network with the pretrained weights of the stage weights and a new head."""
    if context.pretrained is None:
        raise UserError(f"{context.name} is fine-tuned: give --pretrained, the folder of the stages weights")
    folder = context.pretrained / NETWORK
    weights = read_json(folder / NETWORK_FILE, made_by=f"weights@{NETWORK}")["weights"]
    if network_width(weights) != system.width:
        raise UserError(
            f"{context.name}: width is {system.width:g}, but {NETWORK} has {weights}, "
            f"of width {network_width(weights):g}; set the row's width to that"
        )
    outputs = examples.targets.shape[1]
    network = build_initialized(
        system.architecture, system.config, outputs, examples.shapes, system.seed, name
    )
    network.load_pretrained(load_network(folder, system.width))
    return network.to(context.device, memory_format=torch.channels_last)


def _fit_head(
    network: torch.nn.Module, examples: Examples, system: Any, context: TrainingContext, name: str
) -> None:
    """Fit the head to the embeddings of the pretrained network."""
    embeddings = predict(network.eval().embed, examples, batch_size=64, device=context.device)
    values = torch.from_numpy(embeddings).to(context.device)
    targets = torch.from_numpy(examples.targets).to(context.device)
    fit_classifier(
        network.head, values, targets, name=f"{name} head", seed=system.seed, lr=system.head_lr,
        weight_decay=system.head_weight_decay, batch_size=64, max_epochs=system.head_epochs,
    )  # fmt: skip


def _epochs(
    network: torch.nn.Module, examples: Examples, system: Any, context: TrainingContext, name: str
) -> Iterator[tuple[int, float, float, torch.nn.Module]]:
    """Train all layers, with a linear warm-up to `lr` and a cosine decay.

    Yields
    ------
    number : int
        Number of the finished epoch.
    loss, lr : float
    averaged_network : torch.nn.Module
        The network to keep: the moving average of the weights, if there is one.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=system.lr, weight_decay=system.weight_decay)
    bounds = batch_bounds(len(examples), system.batch_size)
    steps = system.max_epochs * len(bounds)
    labels = output_labels(system.outputs, context.taxonomy)
    terms = {
        "gamma": system.focal_gamma,
        "smoothing": system.label_smoothing,
        "unknown": unknown_columns(labels, context.taxonomy) if system.mask_unknown else (),
    }
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine(step, steps, system.warm_up)
    )
    averaged = None
    if system.average:
        averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(system.average))
    averaged_network = averaged.module if averaged else network
    shuffle, draws = random_stream(system.seed, "shuffle", name), random_stream(system.seed, "draws", name)
    seed_torch(system.seed, "dropout", name)
    for number in context.progress(
        range(1, system.max_epochs + 1), total=system.max_epochs, description="epochs", unit="epoch"
    ):
        network.train()
        network.pretrained.eval()  # freezes the statistics of batch norms
        total = 0.0
        order = sample_epoch(examples.targets, system.balance, shuffle)
        for batch, y in examples.batches(system.batch_size, order=order, device=context.device):
            x, y = _augment(batch["log_mel"].float(), y, system, draws)
            loss = tagging_loss(network(x), y, **terms)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            (lr,) = schedule.get_last_lr()
            schedule.step()
            if averaged:
                averaged.update_parameters(network)
            total += loss.item() * len(y)
        if not np.isfinite(total):
            raise UserError(f"{name}: the loss is no longer finite in epoch {number}; lower lr")
        yield number, total / len(examples), lr, averaged_network


def _copy_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the network's weights."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def _interpolate_weights(
    start: dict[str, torch.Tensor], network: torch.nn.Module, share: float
) -> torch.nn.Module:
    """Interpolate from `start` to the network's weights by `share`, in place; 1 keeps the network's."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.lerp(start[name], value, share))
    return network


def _augment(
    x: torch.Tensor, y: torch.Tensor, system: Any, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment a batch with the configured augmentations."""
    if system.roll:
        x = time_roll(x, rng)
    x, y = overlay(random_gain(x, system.gain_db, rng), y, system.overlay, rng)
    x, y = apply_mixup(x, y, system.mixup, rng)
    return spec_augment(x, system.mask_bands, system.mask_frames, rng), y


RECIPE = Recipe(FinetuneConfig, FineTuning, fit_finetuned)
