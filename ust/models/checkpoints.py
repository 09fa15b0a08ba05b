"""Saved networks and systems: safetensors weights and a JSON of what rebuilds them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ust.annotations.annotations import SPLITS
from ust.annotations.taxonomy import Taxonomy
from ust.models.initialization import initialize_weights, without_draws
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
from ust.util.config import Count, ModelPath, Section, Share, explain_validation_error
from ust.util.documents import read_json, write_json
from ust.util.errors import UserError, shorten
from ust.util.tensors import write_tensors

WEIGHTS_FILE, MODEL_FILE = "weights.safetensors", "model.json"
# What comes of building a network from something else.
NOT_A_DESCRIPTION = (KeyError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError)
LARGEST = 10**6  # of a feature's sizes

Network = TypeVar("Network", bound=torch.nn.Module)


class Checkpoint(Section):
    """A row of ``checkpoints`` in params.yaml: what is predicted with, and how its answers are read."""

    model: ModelPath
    threshold: Share = 0.5
    unselected: Literal["keep", "zero"] = "keep"
    pooling: Literal["mean", "max", "softmax"] = "mean"
    coarse_at_least_fine: bool = False


class Predict(Section):
    """The section ``predict`` of params.yaml."""

    split: Literal[SPLITS]
    batch_size: Count


@dataclass(frozen=True)
class SavedNetwork:
    """A network and what it is.

    Attributes
    ----------
    network : torch.nn.Module
    architecture : str
        Its row of `ARCHITECTURES`.
    config : Section
        What rebuilds it.
    labels : list of str
        What its outputs are of.
    metadata : dict
        Epoch and score it was chosen by, what its features rest on.
    shapes : mapping of str to tuple of int
        Of a clip's inputs.
    """

    network: torch.nn.Module
    architecture: str
    config: Section
    labels: list[str]
    metadata: dict[str, Any]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def build_network(
    architecture: str, config: Section, outputs: int, shapes: Mapping[str, tuple[int, ...]]
) -> torch.nn.Module:
    """A network whose weights are PyTorch's first ones: to be loaded over, or to be looked at."""
    return ARCHITECTURES[architecture](config, outputs, shapes)


def build_new(
    architecture: str,
    config: Section,
    outputs: int,
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
    name: str,
) -> torch.nn.Module:
    """A network to train: its first weights follow from the seed and its name alone, on every processor."""
    network = without_draws(lambda: build_network(architecture, config, outputs, shapes))
    initialize_weights(network, seed, name)
    return network


def save_network(folder: Path, saved: SavedNetwork, *, kind: str = "flat") -> None:
    """Write a network; the description last, so that a folder with one is complete.

    Parameters
    ----------
    folder : Path
    saved : Saved
    kind : {"flat", "frames"}
        Of the system that the network makes.
    """
    write_tensors(folder / WEIGHTS_FILE, saved.network.state_dict())
    description = {
        "kind": kind,
        "architecture": saved.architecture,
        "config": saved.config.model_dump(),
        "shapes": {name: list(shape) for name, shape in saved.shapes.items()},
        "labels": saved.labels,
        "about": saved.metadata,
    }
    write_json(folder / MODEL_FILE, description)


def save_hierarchy(folder: Path, nodes: list[str], metadata: dict[str, Any]) -> None:
    """Write what a folder of networks makes together."""
    write_json(folder / MODEL_FILE, {"kind": "hierarchy", "nodes": nodes, "about": metadata})


def save_ensemble(
    folder: Path, members: list[str], shares: Mapping[str, list[float]], metadata: dict[str, Any]
) -> None:
    """Write what the systems in a folder's folders make together."""
    description = {"kind": "ensemble", "members": members, "shares": shares, "about": metadata}
    write_json(folder / MODEL_FILE, description)


def update_metadata(folder: Path, **facts: int | bool) -> None:
    """Add to what a checkpoint says of itself."""
    description = read_description(folder)
    description["about"] |= facts
    write_json(folder / MODEL_FILE, description)


def read_description(folder: Path) -> dict[str, Any]:
    """What a folder's network or system is.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    path = folder / MODEL_FILE
    inside = sorted(str(other.parent) for other in folder.glob(f"*/{MODEL_FILE}"))
    if inside and not path.exists():
        raise UserError(f"{folder}: holds several checkpoints; name one: {shorten(inside)}")
    return read_json(path, made_by="train")


def read_network(folder: Path, build: Callable[[], Network]) -> Network:
    """Build a network and set its weights.

    Parameters
    ----------
    folder : Path
    build : callable
        Makes the network; it takes no memory before the file is known to be of such a network.

    Raises
    ------
    UserError
        If the file is missing or damaged, or of another network.
    """
    path = folder / WEIGHTS_FILE
    try:
        with torch.device("meta"):
            wanted = {name: list(tensor.shape) for name, tensor in build().state_dict().items()}
        with safe_open(path, "pt") as file:
            found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if found != wanted:
            raise UserError(f"{path}: not the weights of the network that {MODEL_FILE} describes")
        network = without_draws(build)
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage train makes it") from None
    except SafetensorError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: damaged ({reason}); delete it and run the stage train again") from None
    return network


def load_network(folder: Path) -> SavedNetwork:
    """Read a network and rebuild it.

    Raises
    ------
    UserError
        If a file is missing or damaged, or of an architecture that is not there.
    """
    description = read_description(folder)
    path = folder / MODEL_FILE
    try:
        architecture, labels = description["architecture"], list(description["labels"])
        if architecture not in ARCHITECTURES:
            raise UserError(f"{path}: there is no architecture {architecture!r}")
        config = ARCHITECTURES[architecture].Config(**description["config"])
        shapes = {name: tuple(map(int, shape)) for name, shape in description["shapes"].items()}
        if any(size > LARGEST for shape in shapes.values() for size in shape):
            raise ValueError(f"a size of more than {LARGEST:,}")
        network = read_network(folder, lambda: build_network(architecture, config, len(labels), shapes))
        return SavedNetwork(network, architecture, config, labels, dict(description["about"]), shapes)
    except ValidationError as error:
        reasons = "; ".join(explain_validation_error(error, ARCHITECTURES[architecture].Config, "config."))
        raise UserError(f"{path}: not a description of a network ({reasons})") from None
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
    """Read a trained system of any kind, to be asked: dropout and batch norm are as for that.

    Parameters
    ----------
    folder : Path
        Of the stage train; of a flat system the folder of one checkpoint.
    threshold, unselected
        See `ust.models.systems.HierarchicalSystem`.
    pooling : str
        See `ust.models.systems.FrameSystem`.
    coarse_at_least_fine : bool
        See `ust.models.systems.System`.
    taxonomy : Taxonomy, optional
        Of the labels; by default the one that the system was trained with.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    description = read_description(folder)
    kind = description.get("kind")
    path = folder / MODEL_FILE
    try:
        metadata = dict(description["about"])
        labels = taxonomy or Taxonomy.from_dict(metadata["taxonomy"])
        if kind == "hierarchy":
            nodes = {}
            for name in description["nodes"]:
                node = load_network(folder / name)
                nodes[name] = CalibratedClassifier(node.network, node.labels)
            if ROOT not in nodes:
                raise KeyError(ROOT)
            system = HierarchicalSystem(nodes, labels, metadata, threshold=threshold, unselected=unselected)
        elif kind == "flat":
            saved = load_network(folder)
            system = FlatSystem(saved.network, saved.labels, labels, metadata)
        elif kind == "frames":
            saved = load_network(folder)
            system = FrameSystem(saved.network, saved.labels, labels, metadata, pooling=pooling)
        elif kind == "ensemble":
            inference_options = {"threshold": threshold, "unselected": unselected, "pooling": pooling}
            members = [
                load_system(folder / name, **inference_options, taxonomy=labels)
                for name in description["members"]
            ]
            system = EnsembleSystem(members, labels, metadata, shares=description["shares"])
        else:
            raise UserError(f"{path}: the kind is {kind!r}, should be flat, hierarchy, frames or ensemble")
    except NOT_A_DESCRIPTION as error:
        raise UserError(f"{path}: not a description of a system ({error})") from None
    system.coarse_at_least_fine = coarse_at_least_fine
    return system.eval()


def parameter_count(network: torch.nn.Module) -> int:
    """Number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())
