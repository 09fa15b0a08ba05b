"""Training of the challenge's baseline, a classifier of single VGGish embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional

from ust.annotations.taxonomy import Taxonomy, is_incomplete
from ust.models.checkpoints import (
    SavedNetwork,
    build_initialized,
    count_parameters,
    save_network,
    update_metadata,
)
from ust.models.examples import Examples
from ust.models.frames import FrameClassifier
from ust.models.outputs import output_labels
from ust.training.config import Recipe, SystemConfig
from ust.training.plateau import stopped_early
from ust.training.schedules import EarlyStopping
from ust.training.work import TrainingContext, TrainingData
from ust.util.config import Count, Positive, Seed, Weight
from ust.util.errors import UserError
from ust.util.seeding import random_stream


class Baseline(FrameClassifier.Config):
    """Settings of the recipe ``train_baseline``, including those of its classifier."""

    seed: Seed
    lr: Positive
    batch_size: Count
    max_epochs: Count
    stop_patience: Count
    l2: Weight
    standardize: bool
    cache_gib: ClassVar[float] = 0.0  # each embedding is read only once


class BaselineConfig(SystemConfig):
    """A row of ``systems`` with this recipe; the baseline is not trained on augmented variants."""

    outputs: Literal["fine", "coarse"]
    variants: ClassVar[bool] = False
    of_frames: ClassVar[bool] = True


@dataclass(frozen=True)
class Epoch:
    """Result of an epoch; `best` if its validation loss is the lowest so far."""

    number: int
    loss: float
    validation_loss: float
    best: bool

    def figures(self) -> dict[str, float]:
        """Metrics of the learning curve."""
        return {"loss": self.loss, "validation_loss": self.validation_loss}


def outputs(recipe: Any, taxonomy: Taxonomy) -> list[str]:
    """Return the labels to predict: the coarse ones, or the complete fine ones."""
    return [label for label in output_labels(recipe.outputs, taxonomy) if not is_incomplete(label)]


def summed_terms(recipe: Any, taxonomy: Taxonomy) -> int:
    """Return the number of terms that the challenge's code sums in its loss, where ours is a mean.

    It scales `l2`, which the challenge's code adds to the sum. For fine labels the number is frames in a
    batch times labels; for coarse labels it is 1.
    """
    return recipe.batch_size * len(outputs(recipe, taxonomy)) if recipe.outputs == "fine" else 1


def loss_mask(targets: np.ndarray, columns: list[str], taxonomy: Taxonomy) -> np.ndarray:
    """Return 1 where a label's loss counts, 0 where its group's ``-X`` label leaves it unknown.

    Parameters
    ----------
    targets : numpy.ndarray [shape=(n, labels)]
        All labels, coarse first.
    columns : list of str
        The labels that the network predicts.
    taxonomy : Taxonomy

    Returns
    -------
    numpy.ndarray [shape=(n, columns), float32]
    """
    mask = np.ones((len(targets), len(columns)), np.float32)
    for column, label in enumerate(columns):
        if label in taxonomy.fine:
            incomplete = taxonomy.incomplete(taxonomy.group[taxonomy.fine.index(label)])
            if incomplete is not None:
                mask[:, column] = targets[:, len(taxonomy.coarse) + incomplete] == 0
    return mask


def fit_baseline(system: Any, data: TrainingData, context: TrainingContext) -> None:
    """Train a frame classifier and save its checkpoint with the lowest validation loss."""
    labels = outputs(system, context.taxonomy)

    def on_epoch(epoch: Epoch, network: FrameClassifier) -> None:
        if epoch.best:
            metadata = {"epoch": epoch.number, "validation_loss": epoch.validation_loss} | context.metadata
            metadata |= {"outputs": system.outputs, "parameters": count_parameters(network)}
            save_network(
                context.out,
                SavedNetwork(
                    network, system.architecture, system.config, labels, metadata, data.train.shapes
                ),
                kind="frames",
            )
        context.callbacks.on_epoch("", epoch)

    epochs = train_baseline(
        data.train,
        data.validate,
        context.taxonomy,
        system,
        device=context.device,
        name=context.name,
        on_epoch=on_epoch,
    )
    update_metadata(context.out, epochs=len(epochs), converged=stopped_early(epochs, system.stop_patience))


def train_baseline(
    examples: Examples,
    validate: Examples,
    taxonomy: Taxonomy,
    recipe: Any,
    *,
    device: torch.device,
    name: str,
    on_epoch: Callable[[Epoch, FrameClassifier], None],
) -> list[Epoch]:
    """Train on every frame of every clip, with early stopping on the validation loss.

    Parameters
    ----------
    examples, validate : Examples
        With targets of all labels, coarse first.
    taxonomy : Taxonomy
    recipe : BaselineConfig
        The system, with the settings of `Baseline`.
    device : torch.device
    name : str
        Name of the system.
    on_epoch : callable
        Called after each epoch with its result and the classifier, to save the best.

    Returns
    -------
    list of Epoch

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    labels = outputs(recipe, taxonomy)
    network = build_initialized(
        recipe.architecture, recipe.config, len(labels), examples.shapes, recipe.seed, name
    ).to(device)
    train, validation = (_frames(e, labels, taxonomy, device) for e in (examples, validate))
    if recipe.standardize:
        from sklearn.preprocessing import StandardScaler  # slow to import, and needed only here

        scaler = StandardScaler().fit(train[0].cpu().numpy())
        network.mean.copy_(torch.from_numpy(scaler.mean_))
        network.scale.copy_(torch.from_numpy(scaler.scale_))
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.lr, fused=True)
    shuffle = random_stream(recipe.seed, "shuffle", name)
    stopping = EarlyStopping(recipe.stop_patience)
    l2 = recipe.l2 / summed_terms(recipe, taxonomy)
    epochs = []
    for number in range(1, recipe.max_epochs + 1):
        total = 0.0
        order = torch.from_numpy(shuffle.permutation(len(train[0]))).to(device)
        for chosen in order.split(recipe.batch_size):
            loss = _loss(network, *(part[chosen] for part in train), l2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        with torch.inference_mode():
            validation_loss = _loss(network, *validation, l2).item()
        if not np.isfinite(total + validation_loss):
            raise UserError(f"{name}: the loss is no longer finite in epoch {number}; a smaller lr may help")
        epochs.append(
            Epoch(number, total / len(train[0]), validation_loss, best=stopping.step(validation_loss))
        )
        on_epoch(epochs[-1], network)
        if stopping.exhausted:
            break
    return epochs


def _frames(
    examples: Examples, labels: list[str], taxonomy: Taxonomy, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return embeddings (frames, 128) with the targets and loss masks (frames, labels) of their clips."""
    embeddings = examples.features["vggish"][examples.rows]
    frames = embeddings.shape[1]
    columns = [taxonomy.labels.index(label) for label in labels]
    targets = examples.targets[:, columns].repeat(frames, axis=0)
    mask = loss_mask(examples.targets, labels, taxonomy).repeat(frames, axis=0)
    arrays = embeddings.reshape(-1, embeddings.shape[-1]).astype(np.float32), targets, mask
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


def _loss(
    network: FrameClassifier, frames: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, l2: float
) -> torch.Tensor:
    """Return the masked mean binary cross-entropy plus the L2 penalty on the weights."""
    entropy = functional.binary_cross_entropy_with_logits(network(frames), targets, reduction="none")
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    return (entropy * mask).mean() + l2 * sum(weight.square().sum() for weight in weights)


RECIPE = Recipe(BaselineConfig, Baseline, fit_baseline)
