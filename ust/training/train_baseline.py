"""The trainer ``train_baseline``: the challenge's baseline, a classifier of single VGGish embeddings."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional

from ust.annotations.taxonomy import Taxonomy, is_incomplete
from ust.models.checkpoints import build_initialized, count_parameters, save_network, update_metadata
from ust.models.examples import Examples, TensorExamples
from ust.models.frames import FrameClassifier
from ust.models.outputs import output_labels
from ust.training.config import FlatRow, SystemConfig, SystemTrainer, TrainingSettings
from ust.training.context import TrainingContext, TrainingData
from ust.training.schedules import ConstantSchedule
from ust.training.trainer import Epoch, Trainer, TrainingState, epochs_since_best, monitor_loss
from ust.util.config import NonNegativeFloat, PositiveFloat, PositiveInt


class BaselineSettings(TrainingSettings):
    """Settings of the trainer ``train_baseline``."""

    lr: PositiveFloat = 0.001
    """Learning rate of Adam, which stays constant."""
    batch_size: PositiveInt = 64
    """Frames of a training step."""
    max_epochs: PositiveInt = 100
    """Number of epochs, at most."""
    stop_patience: PositiveInt = 20
    """Training stops after this many epochs without a lower validation loss."""
    l2: NonNegativeFloat = 1e-5
    """L2 penalty beside a loss that is, as the challenge's, summed over the batch and the fine labels."""
    standardize: bool = True
    """Standardise the embeddings to mean 0 and deviation 1 over the train frames."""
    cache_gib: NonNegativeFloat = 0.0
    """GiB of features kept in memory; none by default, as each embedding is read only once."""


class BaselineRow(FlatRow):
    """A row of ``systems`` with this trainer; the baseline is not trained on augmented variants."""

    outputs: Literal["fine", "coarse"]
    """Labels that the network predicts."""
    variants: ClassVar[bool] = False


BaselineConfig = SystemConfig[BaselineRow, BaselineSettings]


def baseline_labels(outputs: str, taxonomy: Taxonomy) -> list[str]:
    """Return the labels to predict: the coarse ones, or the complete fine ones."""
    return [label for label in output_labels(outputs, taxonomy) if not is_incomplete(label)]


def summed_terms(config: BaselineConfig, taxonomy: Taxonomy) -> int:
    """Return the number of terms that the challenge's code sums in its loss, where ours is a mean.

    It scales the L2 penalty, which the challenge's code adds to the sum. For fine labels the number is frames
    in a batch times labels; for coarse labels it is 1.
    """
    outputs = config.row.outputs
    return config.training.batch_size * len(baseline_labels(outputs, taxonomy)) if outputs == "fine" else 1


def loss_mask(targets: np.ndarray, labels: list[str], taxonomy: Taxonomy) -> np.ndarray:
    """Return 1 where a label's loss counts, 0 where its group's ``-X`` label leaves it unknown.

    Returns
    -------
    numpy.ndarray [shape=(n, labels), float32]
    """
    mask = np.ones((len(targets), len(labels)), np.float32)
    for column, label in enumerate(labels):
        if label in taxonomy.fine:
            incomplete = taxonomy.incomplete(taxonomy.group[taxonomy.fine.index(label)])
            if incomplete is not None:
                mask[:, column] = targets[:, len(taxonomy.coarse) + incomplete] == 0
    return mask


def masked_loss(
    logits: torch.Tensor, targets: torch.Tensor, *, network: FrameClassifier, l2: float
) -> torch.Tensor:
    """Return the mean binary cross-entropy, 0 where the target is NaN, plus an L2 penalty on the weights."""
    known = ~targets.isnan()
    entropy = functional.binary_cross_entropy_with_logits(logits, targets.nan_to_num(0.0), reduction="none")
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    return (entropy * known).mean() + l2 * sum(weight.square().sum() for weight in weights)


def fit_baseline(config: BaselineConfig, data: TrainingData, context: TrainingContext) -> None:
    """Train a frame classifier and save its checkpoint with the lowest validation loss.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    labels = baseline_labels(config.row.outputs, context.taxonomy)

    def on_epoch(epoch: Epoch, network: FrameClassifier) -> None:
        if epoch.best:
            metadata = {"epoch": epoch.number} | epoch.scores | context.metadata
            metadata |= {"outputs": config.row.outputs, "parameters": count_parameters(network)}
            saved = context.describe_network(config, network, labels, data.train, metadata)
            save_network(context.out, saved, kind="frames")
        context.callbacks.on_epoch("", epoch)

    epochs = fit_frame_classifier(
        data.train, data.validate, context.taxonomy, config, device=context.device, name=context.name,
        on_epoch=on_epoch, state=context.read_state(context.name, ""),
    )  # fmt: skip
    converged = epochs_since_best(epochs) >= config.training.stop_patience
    update_metadata(context.out, epochs=len(epochs), converged=converged)


def fit_frame_classifier(
    examples: Examples,
    validate: Examples,
    taxonomy: Taxonomy,
    config: BaselineConfig,
    *,
    device: torch.device,
    name: str,
    on_epoch: Callable[[Epoch, FrameClassifier], None],
    state: TrainingState | None = None,
) -> list[Epoch]:
    """Train on every frame of every clip, with early stopping on the validation loss."""
    settings = config.training
    labels = baseline_labels(config.row.outputs, taxonomy)
    network = build_initialized(
        config.row.architecture, config.model, len(labels), examples.shapes, settings.seed, name
    ).to(device)
    train, validation = (_frames(each, labels, taxonomy, device) for each in (examples, validate))
    if settings.standardize:
        network.standardised.fit(train.inputs["vggish"])
    return Trainer(
        network=network, examples=train,
        loss=partial(masked_loss, network=network, l2=settings.l2 / summed_terms(config, taxonomy)),
        optimizer=partial(torch.optim.Adam, fused=True), schedule=ConstantSchedule(settings.lr),
        batch_size=settings.batch_size, max_epochs=settings.max_epochs, seed=settings.seed, name=name,
        device=device, monitor=monitor_loss(validation, len(validation)), mode="min",
        stop_patience=settings.stop_patience, state=state or TrainingState(),
        on_epoch=lambda epoch: on_epoch(epoch, network),
    ).fit()  # fmt: skip


def _frames(
    examples: Examples, labels: list[str], taxonomy: Taxonomy, device: torch.device
) -> TensorExamples:
    """Return embeddings (frames, 128) with the targets (frames, labels) of their clips, NaN if unknown."""
    embeddings = examples.features["vggish"][examples.rows]
    columns = [taxonomy.labels.index(label) for label in labels]
    unknown = loss_mask(examples.targets, labels, taxonomy) == 0
    targets = np.where(unknown, np.float32(np.nan), examples.targets[:, columns])
    frames = torch.from_numpy(embeddings.reshape(-1, embeddings.shape[-1]).astype(np.float32)).to(device)
    repeated = torch.from_numpy(targets.repeat(embeddings.shape[1], axis=0)).to(device)
    return TensorExamples({"vggish": frames}, repeated)


TRAINER = SystemTrainer(BaselineRow, BaselineSettings, fit_baseline, architectures=("frames",))
