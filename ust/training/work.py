"""What every training is given: data, a place to write to, somebody who listens."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.features.store import Features
from ust.models.checkpoints import build_initialized
from ust.models.examples import Examples, select_examples
from ust.training import distributed
from ust.training.config import SystemConfig
from ust.training.distributed import convert_sync_batchnorm
from ust.training.state import TrainingState
from ust.util.accelerate import accelerate
from ust.util.digests import versions
from ust.util.errors import UserError
from ust.util.progress import Progress, silent


class Callbacks(Protocol):
    """Who is told how a training goes."""

    def on_epoch(self, node: str, epoch: Any) -> None:
        """An epoch of a network is over; `node` is "" where a system has only one."""

    def on_resume(self, node: str, epochs: list[Any]) -> None:
        """A training goes on after these epochs."""


@dataclass(frozen=True)
class TrainingData:
    """What a system learns from and is chosen by.

    Attributes
    ----------
    train, validate : Examples
        With targets of all labels, coarse first.
    """

    train: Examples
    validate: Examples


@dataclass(frozen=True)
class TrainingContext:
    """Where and on what a system is trained.

    Attributes
    ----------
    name : str
        Of the system.
    taxonomy : Taxonomy
    device : torch.device
    out : Path
        Folder for the models.
    states : Path
        Folder for what a training cut short goes on from.
    metadata : dict
        What is written into each model: what its features rest on.
    root : Path or None
        Checkpoint of a flat network that is the root of a hierarchy.
    listener : Listener
    progress : Progress
    pretrained : Path or None
        Folder of the features' networks, for whoever goes on from one.
    synchronise : bool
        Whether batch norms of several processes are over the batch of all of them.
    """

    name: str
    taxonomy: Taxonomy
    device: torch.device
    out: Path
    states: Path
    metadata: dict[str, Any]
    root: Path | None
    callbacks: Callbacks
    progress: Progress = silent
    pretrained: Path | None = None
    synchronise: bool = True

    def network(self, system: SystemConfig, outputs: int, name: str, examples: Examples) -> torch.nn.Module:
        """A network of the system's architecture for such examples, with first weights of its own."""
        network = build_initialized(
            system.architecture, system.config, outputs, examples.shapes, system.seed, name
        )
        if self.synchronise and distributed.world_size() > 1:
            convert_sync_batchnorm(network)
        return accelerate(network).to(self.device)

    def state(self, name: str, node: str, epoch: Callable[..., Any]) -> TrainingState:
        """What a network's training goes on from, the listener told; `epoch` is the class of its epochs."""
        state = TrainingState.read(self.states / f"{name}.safetensors")
        if distributed.rank():
            state.path = None  # the first process keeps it
        if state.epochs:
            self.callbacks.on_resume(node, [epoch(**values) for values in state.epochs])
        return state


def describe_model(
    system: SystemConfig, taxonomy: Taxonomy, features: Mapping[str, Features]
) -> dict[str, Any]:
    """What a model says of itself: what makes the same features of any recording."""

    def attributes(file: Features) -> dict[str, Any]:
        items = file.attributes.items()
        return {name: value.item() if hasattr(value, "item") else value for name, value in items}

    return {
        "architecture": system.description,
        "versions": versions("numpy", "scikit-learn", "torch"),
        "taxonomy": asdict(taxonomy),
        "inputs": system.inputs,
        "features": {file.name: attributes(file) for file in features.values()},
    }


def training_data(
    system: SystemConfig,
    labels: pd.DataFrame,
    features: Mapping[str, Features],
    taxonomy: Taxonomy,
    sensors: Mapping[str, str] | None = None,
) -> TrainingData:
    """What a system learns from: the train clips, with their variants if it wants them, and validate.

    Parameters
    ----------
    system : System
    labels : pandas.DataFrame
        By its rule, as `ust.annotations.labels.read_labels` gives them.
    features : mapping of str to Features
        By its network's inputs.
    taxonomy : Taxonomy
    sensors : mapping of str to str, optional
        The sensor_id of each train clip, which a system with folds needs.
    """
    columns = list(taxonomy.labels)
    return TrainingData(
        select_examples("train", labels, columns, features, variants=system.variants, sensors=sensors),
        select_examples("validate", labels, columns, features, variants=False),
    )


def check_inputs(name: str, system: SystemConfig, features: Mapping[str, Features]) -> None:
    """Check that a system's network and recipe can take the features that there are.

    Raises
    ------
    UserError
        Saying what of them should be changed.
    """
    shapes = {key: tuple(file.values.shape[1:]) for key, file in features.items()}
    try:
        system.check_shapes(shapes)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
