"""Data, folders, metadata and callbacks of a training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.features.context import COLUMNS, CONTEXT
from ust.features.store import Features
from ust.models.checkpoints import SavedNetwork, build_initialized
from ust.models.examples import Examples, select_examples
from ust.models.outputs import output_labels
from ust.models.registry import ARCHITECTURES
from ust.training import distributed
from ust.training.config import SystemConfig
from ust.training.distributed import convert_sync_batchnorm
from ust.training.trainer import Epoch, TrainingState
from ust.util.accelerate import accelerate
from ust.util.digests import versions
from ust.util.errors import UserError
from ust.util.progress import Progress, silent


class Callbacks(Protocol):
    """Callbacks of a training."""

    def on_epoch(self, node: str, epoch: Epoch) -> None:
        """Called after each epoch of a network; `node` is "" if the system has only one."""

    def on_resume(self, node: str, epochs: list[Epoch]) -> None:
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
    states : Path or None
        Folder for the states to resume from; None to keep none.
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
    states: Path | None
    metadata: dict[str, Any]
    root: Path | None
    callbacks: Callbacks
    progress: Progress = silent
    pretrained: Path | None = None
    synchronise: bool = True

    def build_network(
        self, config: SystemConfig, outputs: int, name: str, examples: Examples
    ) -> torch.nn.Module:
        """Build an initialised network of the system's architecture, on the device."""
        network = build_for_training(config, outputs, name, examples)
        if self.synchronise and distributed.world_size() > 1:
            convert_sync_batchnorm(network)
        return accelerate(network).to(self.device)

    def read_state(self, name: str, node: str | None = None) -> TrainingState:
        """Read a network's training state; report resumed epochs, unless `node` is None."""
        state = (
            TrainingState()
            if self.states is None
            else TrainingState.read(self.states / f"{name}.safetensors")
        )
        if distributed.rank():
            state.path = None  # only the first process writes it
        if state.epochs and node is not None:
            self.callbacks.on_resume(node, [Epoch.from_dict(values) for values in state.epochs])
        return state

    def describe_network(
        self,
        config: SystemConfig,
        network: torch.nn.Module,
        labels: list[str],
        examples: Examples,
        metadata: dict[str, Any],
    ) -> SavedNetwork:
        """Return a network with the description for its checkpoint."""
        return SavedNetwork(
            network, config.row.architecture, config.model, labels, metadata, examples.shapes,
            config.context,
        )  # fmt: skip


def build_for_training(config: SystemConfig, outputs: int, name: str, examples: Examples) -> torch.nn.Module:
    """Build an initialised network of the system's architecture; coordinates are scaled by the examples."""
    network = build_initialized(
        config.row.architecture, config.model, outputs, examples.shapes, config.training.seed, name,
        config.context,
    )  # fmt: skip
    if config.context is not None:
        network.context.fit(torch.from_numpy(examples.features[CONTEXT][examples.rows]))
    return network


def describe_model(
    config: SystemConfig, taxonomy: Taxonomy, features: Mapping[str, Features]
) -> dict[str, Any]:
    """Return the metadata of a model, including everything needed to compute its features."""

    def attributes(file: Features) -> dict[str, Any]:
        items = file.attributes.items()
        return {name: value.item() if hasattr(value, "item") else value for name, value in items}

    context = {} if config.context is None else {"spatiotemporal_context": ", ".join(COLUMNS)}
    return context | {
        "architecture": config.description,
        "versions": versions("numpy", "scikit-learn", "torch"),
        "taxonomy": asdict(taxonomy),
        "inputs": config.inputs | ({} if config.context is None else {CONTEXT: CONTEXT}),
        "features": {file.name: attributes(file) for file in features.values()},
    }


def training_data(
    config: SystemConfig,
    labels: pd.DataFrame,
    features: Mapping[str, Features],
    taxonomy: Taxonomy,
    sensors: Mapping[str, str] | None = None,
) -> TrainingData:
    """Select a system's examples: the train clips, with variants if it uses them, and validate."""
    columns = list(taxonomy.labels)
    return TrainingData(
        select_examples("train", labels, columns, features, variants=config.row.variants, sensors=sensors),
        select_examples("validate", labels, columns, features, variants=False),
    )


def select_outputs(outputs: str, examples: Examples, taxonomy: Taxonomy) -> tuple[list[str], Examples]:
    """Return the labels of a network's outputs, and the examples with only these targets."""
    labels = output_labels(outputs, taxonomy)
    columns = [taxonomy.labels.index(label) for label in labels]
    return labels, examples.subset(slice(None), examples.targets[:, columns])


def complete_for_labels(config: SystemConfig, context: TrainingContext) -> SystemConfig:
    """Complete the settings of the architecture for the labels that the system predicts."""
    if config.context is not None and not ARCHITECTURES[config.row.architecture].has_epochs:
        raise UserError(
            f"systems.{context.name}.context: is given, should be null: the architecture "
            f"{config.row.architecture} does not take time and place"
        )
    labels = output_labels(config.row.outputs, context.taxonomy)
    try:
        return replace(config, model=config.model.complete_for_labels(context.taxonomy, labels))
    except ValueError as error:
        raise UserError(f"systems.{context.name}.{error}") from None


def check_inputs(name: str, config: SystemConfig, features: Mapping[str, Features]) -> None:
    """Check that a system's network and trainer accept the extracted features."""
    shapes = {key: tuple(file.values.shape[1:]) for key, file in features.items()}
    try:
        config.check_shapes(shapes)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def check_root(root: Path | None) -> None:
    """Check that a checkpoint is given for a hierarchy whose root is a flat network."""
    if root is None:
        raise UserError(
            "the root of this hierarchy is a flat network: name its checkpoint with --root, such as "
            "models/cnn_vggish/coarse, or set root to own"
        )
