"""The trainer ``train_finetune``: a pretrained network, first its head on frozen embeddings, then all layers.

A randomly initialised head distorts the pretrained features at the start of fine-tuning; a fitted head does
not (Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR
2022). The saved weights are interpolated between the weights before and after fine-tuning, which keeps more
of the pretrained network's generalisation (WiSE-FT: Wortsman et al., Robust Fine-Tuning of Zero-Shot Models,
CVPR 2022). Optionally, AudioSet's classes are kept as a second head (`ust.training.distillation`). Batch
norms keep their AudioSet statistics, because batches of a small data set estimate them poorly.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.nn import functional

from ust.features.efficientat.network import MobileNet
from ust.features.efficientat.weights import load_network, network_width
from ust.features.feature import NETWORK_FILE
from ust.features.mn_logmel import OFFSET, SCALE, SHIFT
from ust.models.checkpoints import count_parameters, save_network
from ust.models.context import audio_network
from ust.models.examples import Batch, Examples, TensorExamples, predict
from ust.models.mobilenet import TaggingMobileNet
from ust.training.augmentation import mixup_batch, spec_augment, time_roll
from ust.training.config import PretrainedRow, SystemConfig, SystemTrainer, TrainingSettings
from ust.training.context import TrainingContext, TrainingData, build_for_training, select_outputs
from ust.training.cross_validation import cross_val_predict, fold_metadata
from ust.training.distillation import DistilledNetwork, distillation_loss
from ust.training.losses import Loss, sample_epoch, tagging_loss, unknown_columns
from ust.training.schedules import CosineSchedule
from ust.training.train import flat_score
from ust.training.trainer import Epoch, Trainer, fit_classifier, monitor_scores
from ust.util.config import (
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
)
from ust.util.documents import read_json
from ust.util.errors import UserError

PREDICTION_BATCH = 64  # clips
DECIBEL = np.log(10) / 10 / SCALE  # one decibel in the log-mels of `ust.features.mn_logmel.log_mel`
MIN_GAIN, MAX_GAIN = -8.0, 3.0  # dB, of an overlaid sound


class FinetuneSettings(TrainingSettings):
    """Settings of the trainer ``train_finetune``."""

    head_lr: PositiveFloat = 0.003
    """Initial learning rate of the head on frozen embeddings."""
    head_weight_decay: NonNegativeFloat = 5.0
    """Weight decay of the head on frozen embeddings."""
    head_epochs: PositiveInt = 60
    """Epochs of the head on frozen embeddings."""
    lr: PositiveFloat = 0.0006
    """Learning rate of all weights, reached after the warm-up, falling to 0 as a cosine."""
    weight_decay: NonNegativeFloat = 0.0001
    """Weight decay of all weights."""
    warm_up: FractionBelowOne = 0.1
    """Share of the steps in which the rate rises to `lr`."""
    batch_size: Annotated[int, Field(ge=2)] = 16
    """Clips of a training step."""
    max_epochs: PositiveInt = 9
    """Number of epochs, at most; also the length of the schedule."""
    mixup: NonNegativeFloat = 0.3
    """Each example is mixed with another by a share from Beta(mixup, mixup); 0 for none."""
    overlay: Fraction = 0.5
    """Share of the examples that get another's sound on top."""
    gain_db: NonNegativeFloat = 4.0
    """The level of each example changes by up to this many dB in either direction."""
    roll: bool = True
    """Rotate each example by a random time."""
    mask_bands: NonNegativeInt = 16
    """Adjacent bands that are set to the mean: 0 to this many."""
    mask_frames: NonNegativeInt = 200
    """Adjacent frames that are set to the mean: 0 to this many."""
    average: FractionBelowOne = 0.0
    """Decay of the moving average of weights over steps; 0 keeps the last ones, 0.99 averages about 100."""
    interpolate: Fraction = 0.7
    """Position of the saved weights between those with the head fitted, 0, and the fine-tuned ones, 1."""
    distillation: NonNegativeFloat = 0.0
    """Weight of the cross-entropy with the unchanged network's AudioSet probabilities; 0 for none."""
    focal_gamma: NonNegativeFloat = 0.0
    """Exponent of a focal loss; 0 is cross-entropy."""
    label_smoothing: FractionBelowOne = 0.0
    """Share of the targets that is one half."""
    mask_unknown: bool = False
    """Whether a fine label counts less, the more its group's -X label is present."""
    balance: NonNegativeFloat = 0.0
    """Sample examples by (1 / frequency of their rarest label) to this power; 0 takes each once."""
    folds: NonNegativeInt = 0
    """Number of folds of the train clips, by sensor_id, for out-of-fold predictions; 0 for none."""
    stop_patience: NonNegativeInt = 0
    """Epochs without a lower loss on a fold, after which its training stops; 0 trains all epochs."""
    calibrate: bool = True
    """Fit calibration and thresholds on the out-of-fold predictions."""

    @property
    def has_folds(self) -> bool:
        """Whether training uses cross-validation."""
        return self.folds > 0

    @model_validator(mode="after")
    def _stops_by_folds(self) -> "FinetuneSettings":
        """Check that early stopping has folds to monitor."""
        if self.folds == 1:
            raise ValueError("folds is 1, should be 0 for none, or at least 2")
        if self.stop_patience and not self.folds:
            raise ValueError(
                f"stop_patience is {self.stop_patience}, but folds is 0: training stops by the "
                "clips of a fold; set folds to 2 or more, or stop_patience to 0"
            )
        return self

    def check(self, model: Section, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that masks and windows are no larger than the log-mel."""
        bands, frames = shapes["log_mel"]
        for name, limit, axis in (("mask_bands", bands, "bands"), ("mask_frames", frames, "frames")):
            if getattr(self, name) > limit:
                value = getattr(self, name)
                raise ValueError(f"{name} is {value}, should be at most {limit}, the {axis} of the feature")
        if model.windows > frames // 2:  # the step between windows is half a window
            raise ValueError(
                f"windows is {model.windows}, should be at most {frames // 2}: the feature has {frames} "
                "frames, a window at least two"
            )


FinetuneConfig = SystemConfig[PretrainedRow, FinetuneSettings]


def fit_finetuned(config: FinetuneConfig, data: TrainingData, context: TrainingContext) -> None:
    """Fine-tune a pretrained network and save it after the last epoch; validate does not choose the epoch.

    With ``stop_patience``, the number of epochs is the median over folds of the best epoch on the held-out
    fold.

    Raises
    ------
    UserError
        If the pretrained weights are missing or have another width, or the loss is no longer finite.
    """
    settings = config.training
    labels, train = select_outputs(config.row.outputs, data.train, context.taxonomy)
    metadata = context.metadata | {"outputs": config.row.outputs}
    max_epochs = settings.max_epochs
    if settings.has_folds:
        best = []

        def train_fold(rest: Examples, fold: Examples, number: int) -> torch.nn.Module:
            options: dict[str, Any] = {"mode": None}
            if settings.stop_patience:
                score = partial(_cross_entropy, targets=fold.targets)
                options = {
                    "monitor": monitor_scores(fold, score, PREDICTION_BATCH), "mode": "min",
                    "stop_patience": settings.stop_patience, "restore_best": True,
                }  # fmt: skip
            name = f"{context.name} fold {number}"
            network, epochs = _train(rest, labels, config, context, name, **options)
            best.append(max((epoch.number for epoch in epochs if epoch.best), default=len(epochs)))
            return network

        predictions = cross_val_predict(settings.folds, train, context, train_fold)
        metadata |= fold_metadata(
            predictions, data.train, labels, context, folds=settings.folds, calibrate=settings.calibrate
        )
        max_epochs = int(np.median(best))

    score = flat_score(labels, data.validate.targets, context.taxonomy)
    network, _ = _train(
        train, labels, config, context, context.name, max_epochs=max_epochs, mode=None, node="",
        monitor=monitor_scores(data.validate, score, PREDICTION_BATCH),
        on_epoch=partial(context.callbacks.on_epoch, ""),
    )  # fmt: skip
    metadata |= {"epoch": max_epochs, "parameters": count_parameters(network)}
    metadata |= {"epochs": max_epochs, "converged": True}
    save_network(context.out, context.describe_network(config, network, labels, train, metadata))


def _cross_entropy(predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return the binary cross-entropy of probabilities, as the score ``validation_loss``."""
    loss = functional.binary_cross_entropy(torch.from_numpy(predictions), torch.from_numpy(targets))
    return {"validation_loss": loss.item()}


def _train(
    train: Examples,
    labels: list[str],
    config: FinetuneConfig,
    context: TrainingContext,
    name: str,
    *,
    node: str | None = None,
    **options: Any,
) -> tuple[torch.nn.Module, list[Epoch]]:
    """Train a network whose random streams depend on its name: fit the head, then train all layers.

    Further arguments are those of `Trainer`. Resumed epochs are reported unless `node` is None.
    """
    settings = config.training
    network, teacher = _load_pretrained(config, train, context, name)
    _fit_head(audio_network(network), train.audio, config, context, name)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    loss = _loss(labels, settings, context)
    augment = partial(augment_mobilenet_inputs, settings=settings)
    module = network
    if settings.distillation:
        module = DistilledNetwork(network, teacher)
        augment = module.add_teacher_targets(augment)
        loss = partial(distillation_loss, tagging=loss, weight=settings.distillation)
    arguments = {"max_epochs": settings.max_epochs} | options
    trainer = Trainer(
        network=module, examples=train, loss=loss,
        optimizer=partial(torch.optim.AdamW, weight_decay=settings.weight_decay),
        schedule=CosineSchedule(settings.lr, settings.warm_up, settings.max_epochs),
        batch_size=settings.batch_size, seed=settings.seed, name=name, device=context.device,
        augment=augment, eval_modules=[audio_network(network).pretrained],
        sampler=lambda rng: sample_epoch(train.targets, settings.balance, rng), average=settings.average,
        state=context.read_state(name, node), progress=context.progress, **arguments,
    )  # fmt: skip
    epochs = trainer.fit()
    trained = trainer.trained.network if settings.distillation else trainer.trained
    return _interpolate_weights(start, trained, settings.interpolate), epochs


def _load_pretrained(
    config: FinetuneConfig, examples: Examples, context: TrainingContext, name: str
) -> tuple[torch.nn.Module, MobileNet]:
    """Return the network with pretrained weights and a new head, and the pretrained network unchanged."""
    if context.pretrained is None:
        raise UserError(f"{context.name} is fine-tuned: give --pretrained, the folder of the stage weights")
    folder, width, base = context.pretrained, config.model.width, config.row.network
    weights = read_json(folder / NETWORK_FILE, made_by=f"weights@{base}")["weights"]
    if network_width(weights) != width:
        raise UserError(
            f"{context.name}: width is {width:g}, but {base} has {weights}, of width "
            f"{network_width(weights):g}; set the row's width to that"
        )
    network = build_for_training(config, examples.targets.shape[1], name, examples)
    pretrained = load_network(folder, width).to(context.device, memory_format=torch.channels_last)
    audio_network(network).load_pretrained(pretrained)
    return network.to(context.device, memory_format=torch.channels_last), pretrained


def _fit_head(
    network: TaggingMobileNet, examples: Examples, config: FinetuneConfig, context: TrainingContext, name: str
) -> None:
    """Fit the head to the embeddings of the pretrained network."""
    settings = config.training
    embeddings = predict(network.eval().embed, examples, batch_size=PREDICTION_BATCH, device=context.device)
    values = torch.from_numpy(embeddings).to(context.device)
    targets = torch.from_numpy(examples.targets).to(context.device)
    fit_classifier(
        network.head, TensorExamples({"embedding": values}, targets), name=f"{name} head",
        seed=settings.seed, lr=settings.head_lr, weight_decay=settings.head_weight_decay, batch_size=64,
        max_epochs=settings.head_epochs, mode=None, state=context.read_state(f"{name} head"),
        checkpoint_every=settings.head_epochs,
    )  # fmt: skip


def _loss(labels: list[str], settings: FinetuneSettings, context: TrainingContext) -> Loss:
    """Return the loss of the settings."""
    unknown = unknown_columns(labels, context.taxonomy) if settings.mask_unknown else ()
    return partial(
        tagging_loss, gamma=settings.focal_gamma, smoothing=settings.label_smoothing, unknown=unknown
    )


def augment_mobilenet_inputs(
    inputs: Batch, targets: torch.Tensor, rng: np.random.Generator, *, settings: FinetuneSettings
) -> tuple[Batch, torch.Tensor]:
    """Augment the log-mels of a batch: rotation, gain, overlay, mixup and masks.

    Time and place are mixed by mixup, too; an overlaid example keeps its own.
    """
    x = inputs["log_mel"].float()
    if settings.roll:
        x = time_roll(x, rng)
    x, y = overlay(random_gain(x, settings.gain_db, rng), targets, settings.overlay, rng)
    mixed, y = mixup_batch(inputs | {"log_mel": x}, y, settings.mixup, rng)
    x = spec_augment(mixed["log_mel"], settings.mask_bands, settings.mask_frames, rng)
    return mixed | {"log_mel": x}, y


def overlay(
    x: torch.Tensor, y: torch.Tensor, probability: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add another example's sound to some log-mels, in power, with a gain of -8 to 3 dB."""
    if probability == 0:
        return x, y
    chosen = torch.from_numpy(rng.random(len(x)) < probability).to(x.device)
    other = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    level = torch.from_numpy(rng.uniform(MIN_GAIN, MAX_GAIN, len(x))).to(x)
    power, other_power = (torch.exp(values * SCALE - SHIFT) - OFFSET for values in (x, x[other]))
    total_power = power.clamp(min=0) + other_power.clamp(min=0) * 10 ** (level / 10)[:, None, None]
    mixed = (torch.log(total_power + OFFSET) + SHIFT) / SCALE
    targets = 1 - (1 - y) * (1 - y[other])
    return torch.where(chosen[:, None, None], mixed, x), torch.where(chosen[:, None], targets, y)


def random_gain(x: torch.Tensor, max_db: float, rng: np.random.Generator) -> torch.Tensor:
    """Change the gain of each log-mel by up to `max_db` dB in either direction."""
    change = torch.from_numpy(rng.uniform(-max_db, max_db, len(x))).to(x)
    return x + change[:, None, None] * DECIBEL


def _interpolate_weights(
    start: dict[str, torch.Tensor], network: torch.nn.Module, share: float
) -> torch.nn.Module:
    """Interpolate from `start` to the network's weights by `share`, in place; 1 keeps the network's."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.lerp(start[name], value, share))
    return network


TRAINER = SystemTrainer(PretrainedRow, FinetuneSettings, fit_finetuned, architectures=("mobilenet",))
