"""Checkpoints: weights in safetensors, and a JSON description from which the network is rebuilt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ust.annotations.taxonomy import Taxonomy
from ust.models.context import ContextConfig, ContextNetwork, NetworkWithContext
from ust.models.initialization import initialize_weights, skip_initialization
from ust.models.outputs import ROOT
from ust.models.registry import ARCHITECTURES
from ust.models.systems import (
    CalibratedClassifier,
    EnsembleSystem,
    FlatSystem,
    FrameSystem,
    HierarchicalSystem,
    System,
)
from ust.util.config import Fraction, ModelPath, PositiveInt, Section, explain_validation_error
from ust.util.documents import read_json, write_json
from ust.util.errors import UserError, shorten, single_line
from ust.util.names import MODEL_FILE, SPLITS
from ust.util.tensors import write_tensors

WEIGHTS_FILE = "weights.safetensors"
# Exceptions raised when a network is built from a malformed description.
NOT_A_DESCRIPTION = (KeyError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError)
MAX_SIZE = 10**6  # limit of each dimension of a feature

Network = TypeVar("Network", bound=torch.nn.Module)


class Checkpoint(Section):
    """A row of ``checkpoints`` in params.yaml: a trained model and its inference options."""

    model: ModelPath
    """Folder of the trained model below ``models``; a flat system has the checkpoints coarse and fine."""
    threshold: Fraction = 0.5
    """Of a hierarchy: a group's network runs if its coarse probability is above this, or is the highest."""
    unselected: Literal["keep", "zero"] = "keep"
    """Fine probabilities of the groups that do not run: the root's, or 0."""
    pooling: Literal["mean", "max", "softmax"] = "mean"
    """How a classifier of frames combines the frames of a clip."""
    coarse_at_least_fine: bool = False
    """Whether coarse probabilities are raised to the highest of their fine ones."""


class Predict(Section):
    """Settings of the stage predict."""

    split: Literal[SPLITS] = "validate"
    """Split to predict."""
    batch_size: PositiveInt = 64
    """Clips per batch."""


@dataclass(frozen=True)
class SavedNetwork:
    """A network with the description that its checkpoint stores."""

    network: torch.nn.Module
    architecture: str  # name in `ust.models.registry.ARCHITECTURES`
    config: Section  # settings of the architecture
    labels: list[str]  # labels of the outputs
    metadata: dict[str, Any]  # epoch and score of the checkpoint, provenance of its features
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # shape of each input of a clip
    context: ContextConfig | None = None  # settings of the network of time and place, if there is one


def build_network(
    architecture: str,
    config: Section,
    outputs: int,
    shapes: Mapping[str, tuple[int, ...]],
    context: ContextConfig | None = None,
) -> torch.nn.Module:
    """Build a network with PyTorch's default initialisation, to load weights into or to inspect."""
    network = ARCHITECTURES[architecture](config, outputs, shapes)
    return network if context is None else NetworkWithContext(network, ContextNetwork(context, outputs))


def build_initialized(
    architecture: str,
    config: Section,
    outputs: int,
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
    name: str,
    context: ContextConfig | None = None,
) -> torch.nn.Module:
    """Build a network to train, initialised from the seed and its name, identically on every processor."""
    network = skip_initialization(lambda: build_network(architecture, config, outputs, shapes, context))
    if context is None:
        initialize_weights(network, seed, name)
    else:
        initialize_weights(network.audio, seed, name)  # as without context
        initialize_weights(network.context, seed, name, "context")
        network.context.zero_last_layer()
    return network


def save_network(folder: Path, saved: SavedNetwork, *, kind: str = "flat") -> None:
    """Write a network. The description is written last, so that a folder with one is complete.

    Parameters
    ----------
    kind : {"flat", "frames"}
        Kind of system that the network makes: one that classifies clips, or frames.
    """
    write_tensors(folder / WEIGHTS_FILE, saved.network.state_dict())
    description = {
        "kind": kind,
        "architecture": saved.architecture,
        "config": saved.config.model_dump(),
        "shapes": {name: list(shape) for name, shape in saved.shapes.items()},
        "labels": saved.labels,
        "metadata": saved.metadata,
    }
    if saved.context is not None:
        description["context"] = saved.context.model_dump()
    write_json(folder / MODEL_FILE, description)


def save_hierarchy(folder: Path, nodes: list[str], metadata: dict[str, Any]) -> None:
    """Write the description of a hierarchy, whose networks are in sub-folders named by `nodes`."""
    write_json(folder / MODEL_FILE, {"kind": "hierarchy", "nodes": nodes, "metadata": metadata})


def save_ensemble(
    folder: Path, members: list[str], shares: Mapping[str, list[float]], metadata: dict[str, Any]
) -> None:
    """Write the description of an ensemble, whose members are in sub-folders, with their weights by level."""
    description = {"kind": "ensemble", "members": members, "shares": shares, "metadata": metadata}
    write_json(folder / MODEL_FILE, description)


def update_metadata(folder: Path, **values: int | bool) -> None:
    """Update the metadata of a saved checkpoint."""
    description = read_description(folder)
    description["metadata"] |= values
    write_json(folder / MODEL_FILE, description)


def provenance_warning(metadata: Mapping[str, Any]) -> str | None:
    """Return a warning if a system was trained on synthetic sound or takes random weights; otherwise None.

    Examples
    --------
    >>> features = {"vggish": {"weights": "random"}}
    >>> provenance_warning({"data_source": "synthetic", "features": features})
    'trained on the synthetic city, with random VGGish weights: its tags mean nothing on real sound'
    """
    names = {
        "VGGish" if name == "vggish" else "EfficientAT" if name.startswith("mn") else name
        for name, attributes in metadata.get("features", {}).items()
        if attributes.get("weights") == "random"
    }
    reasons = ["trained on the synthetic city"] if metadata.get("data_source") == "synthetic" else []
    reasons += [f"with random {' and '.join(sorted(names))} weights"] if names else []
    return f"{', '.join(reasons)}: its tags mean nothing on real sound" if reasons else None


def read_description(folder: Path) -> dict[str, Any]:
    """Read the description of a saved network or system."""
    path = folder / MODEL_FILE
    candidates = sorted(str(file.parent) for file in folder.glob(f"*/{MODEL_FILE}"))
    if candidates and not path.exists():
        raise UserError(f"{folder}: holds several checkpoints; name one: {shorten(candidates)}")
    description = read_json(path, made_by="train")
    if "about" in description:  # the name of the metadata in files of older versions
        description["metadata"] = description.pop("about")
    return description


def read_network(folder: Path, build: Callable[[], Network]) -> Network:
    """Build a network and load its weights."""
    path = folder / WEIGHTS_FILE
    try:
        with torch.device("meta"):
            expected_shapes = {name: list(tensor.shape) for name, tensor in build().state_dict().items()}
        with safe_open(path, "pt") as file:
            actual_shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if actual_shapes != expected_shapes:
            raise UserError(f"{path}: not the weights of the network that {MODEL_FILE} describes")
        network = skip_initialization(build)
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage train makes it") from None
    except SafetensorError as error:
        raise UserError(
            f"{path}: damaged ({single_line(error)}); delete it and run the stage train again"
        ) from None
    return network


def load_network(folder: Path) -> SavedNetwork:
    """Load a network from its checkpoint."""
    description = read_description(folder)
    path = folder / MODEL_FILE
    try:
        architecture, labels = description["architecture"], list(description["labels"])
        if architecture not in ARCHITECTURES:
            raise UserError(f"{path}: there is no architecture {architecture!r}")
        config = ARCHITECTURES[architecture].Config(**description["config"])
        shapes = {name: tuple(map(int, shape)) for name, shape in description["shapes"].items()}
        if any(size > MAX_SIZE for shape in shapes.values() for size in shape):
            raise ValueError(f"a size of more than {MAX_SIZE:,}")
        context = ContextConfig(**description["context"]) if "context" in description else None
        network = read_network(
            folder, lambda: build_network(architecture, config, len(labels), shapes, context)
        )
        metadata = dict(description["metadata"])
        return SavedNetwork(network, architecture, config, labels, metadata, shapes, context)
    except ValidationError as error:
        reasons = "; ".join(explain_validation_error(error, ARCHITECTURES[architecture].Config, "config."))
        raise UserError(f"{path}: not a description of a network ({reasons})") from None
    except KeyError as error:
        raise UserError(f"{path}: not a description of a network (it has no {error})") from None
    except NOT_A_DESCRIPTION as error:
        raise UserError(f"{path}: not a description of a network ({error})") from None


def load_system(
    folder: Path,
    *,
    threshold: float = 0.5,
    unselected: str = "keep",
    pooling: str = "mean",
    coarse_at_least_fine: bool = False,
    taxonomy: Taxonomy | None = None,
) -> System:
    """Load a trained system of any kind, in evaluation mode.

    Parameters
    ----------
    folder : Path
        Folder of a model that the stage train wrote; for a flat system, the folder of one of its checkpoints.
    threshold, unselected, pooling, coarse_at_least_fine
        See `Checkpoint`.
    taxonomy : Taxonomy, optional
        By default the taxonomy that the system was trained with.

    Raises
    ------
    UserError
        If a file is missing or damaged.

    Examples
    --------
    >>> system = load_system(Path("models/cnn_vggish/coarse"))  # doctest: +SKIP
    >>> system(logmel=logmel, vggish=vggish).shape  # doctest: +SKIP
    torch.Size([64, 37])
    """
    description = read_description(folder)
    kind = description.get("kind")
    path = folder / MODEL_FILE
    try:
        metadata = dict(description["metadata"])
        taxonomy = taxonomy or Taxonomy.from_dict(metadata["taxonomy"])
        if kind == "hierarchy":
            nodes = {}
            for name in description["nodes"]:
                node = load_network(folder / name)
                nodes[name] = CalibratedClassifier(node.network, node.labels)
            if ROOT not in nodes:
                raise KeyError(ROOT)
            system = HierarchicalSystem(nodes, taxonomy, metadata, threshold=threshold, unselected=unselected)
        elif kind == "flat":
            saved = load_network(folder)
            system = FlatSystem(saved.network, saved.labels, taxonomy, metadata)
        elif kind == "frames":
            saved = load_network(folder)
            system = FrameSystem(saved.network, saved.labels, taxonomy, metadata, pooling=pooling)
        elif kind == "ensemble":
            inference_options = {"threshold": threshold, "unselected": unselected, "pooling": pooling}
            members = [
                load_system(folder / name, **inference_options, taxonomy=taxonomy)
                for name in description["members"]
            ]
            system = EnsembleSystem(members, taxonomy, metadata, shares=description["shares"])
        else:
            raise UserError(f"{path}: the kind is {kind!r}, should be flat, hierarchy, frames or ensemble")
    except KeyError as error:
        raise UserError(f"{path}: not a description of a system (it has no {error})") from None
    except NOT_A_DESCRIPTION as error:
        raise UserError(f"{path}: not a description of a system ({error})") from None
    system.coarse_at_least_fine = coarse_at_least_fine
    return system.eval()


def count_parameters(network: torch.nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
