"""Inputs of every training function: data, output folders, metadata and callbacks."""

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
    """Callbacks of a training."""

    def on_epoch(self, node: str, epoch: Any) -> None:
        """Called after each epoch of a network; `node` is "" if the system has only one."""

    def on_resume(self, node: str, epochs: list[Any]) -> None:
        """Called when training resumes, with the epochs so far."""


@dataclass(frozen=True)
class TrainingData:
    """Train and validate examples of a system.

    Attributes
    ----------
    train, validate : Examples
        With targets of all labels, coarse first.
    """

    train: Examples
    validate: Examples


@dataclass(frozen=True)
class TrainingContext:
    """Name, device, folders and metadata of a training.

    Attributes
    ----------
    name : str
        Name of the system.
    taxonomy : Taxonomy
    device : torch.device
    out : Path
        Folder for the models.
    states : Path
        Folder for the states to resume from.
    metadata : dict
        Metadata stored in each model, such as the provenance of its features.
    root : Path or None
        Checkpoint of the flat network that is the root of a hierarchy.
    callbacks : Callbacks
    progress : Progress
    pretrained : Path or None
        Folder of the features' networks, for fine-tuning.
    synchronise : bool
        Whether batch norms use the batch of all processes.
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
        """Build an initialised network of the system's architecture, on the device."""
        network = build_initialized(
            system.architecture, system.config, outputs, examples.shapes, system.seed, name
        )
        if self.synchronise and distributed.world_size() > 1:
            convert_sync_batchnorm(network)
        return accelerate(network).to(self.device)

    def state(self, name: str, node: str, epoch: Callable[..., Any]) -> TrainingState:
        """Read a network's training state and report resumed epochs, which are built by `epoch`."""
        state = TrainingState.read(self.states / f"{name}.safetensors")
        if distributed.rank():
            state.path = None  # only the first process writes it
        if state.epochs:
            self.callbacks.on_resume(node, [epoch(**values) for values in state.epochs])
        return state


def describe_model(
    system: SystemConfig, taxonomy: Taxonomy, features: Mapping[str, Features]
) -> dict[str, Any]:
    """Return the metadata of a model, including everything needed to compute its features."""

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
    """Select a system's examples: the train clips, with variants if it uses them, and validate.

    Parameters
    ----------
    system : SystemConfig
    labels : pandas.DataFrame
        As `ust.annotations.labels.read_labels` returns them.
    features : mapping of str to Features
        By input of the network.
    taxonomy : Taxonomy
    sensors : mapping of str to str, optional
        The sensor_id of each train clip, needed by systems with folds.
    """
    columns = list(taxonomy.labels)
    return TrainingData(
        select_examples("train", labels, columns, features, variants=system.variants, sensors=sensors),
        select_examples("validate", labels, columns, features, variants=False),
    )


def check_inputs(name: str, system: SystemConfig, features: Mapping[str, Features]) -> None:
    """Check that a system's network and recipe accept the extracted features.

    Raises
    ------
    UserError
        Naming the parameter to change.
    """
    shapes = {key: tuple(file.values.shape[1:]) for key, file in features.items()}
    try:
        system.check_shapes(shapes)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
