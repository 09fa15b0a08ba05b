"""Saved networks: safetensors weights and a JSON of what rebuilds them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ust.errors import UserError, some
from ust.files import read_json, write_json
from ust.models import CNNVGGish, NetworkConfig
from ust.tensors import write_tensors

WEIGHTS_FILE, DESCRIPTION_FILE = "weights.safetensors", "model.json"
# What comes of building a network from something else.
NOT_A_DESCRIPTION = (KeyError, TypeError, ValueError, RuntimeError, OverflowError)

Network = TypeVar("Network", bound=torch.nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """A network and what it is.

    Attributes
    ----------
    network : CNNVGGish
    labels : list of str
        What its outputs are of.
    about : dict
        Epoch and score it was chosen by, what its features rest on.
    """

    network: CNNVGGish
    labels: list[str]
    about: dict[str, Any]


def save(folder: Path, network: torch.nn.Module, description: dict[str, Any]) -> None:
    """Write a network; the description last, so that a folder with one is complete."""
    write_tensors(folder / WEIGHTS_FILE, network.state_dict())
    write_json(folder / DESCRIPTION_FILE, description)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint."""
    description = {
        "kind": "flat",
        "network": checkpoint.network.config.to_dict(),
        "labels": checkpoint.labels,
        "about": checkpoint.about,
    }
    save(folder, checkpoint.network, description)


def read_description(folder: Path) -> dict[str, Any]:
    """What a folder's network or system is.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    path = folder / DESCRIPTION_FILE
    inside = sorted(str(other.parent) for other in folder.glob(f"*/{DESCRIPTION_FILE}"))
    if inside and not path.exists():
        raise UserError(f"{folder}: holds several checkpoints; name one: {some(inside)}")
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
            raise UserError(f"{path}: not the weights of the network that {DESCRIPTION_FILE} describes")
        network = build()
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage train makes it") from None
    except SafetensorError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: damaged ({reason}); delete it and run the stage train again") from None
    return network


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint and rebuild its network.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    description = read_description(folder)
    try:
        config = NetworkConfig(**description["network"])
        network = read_network(folder, lambda: CNNVGGish(config))
        return Checkpoint(network, list(description["labels"]), dict(description["about"]))
    except NOT_A_DESCRIPTION as error:
        raise UserError(f"{folder / DESCRIPTION_FILE}: not a description of a network ({error})") from None


def parameter_count(network: torch.nn.Module) -> int:
    """Number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())
