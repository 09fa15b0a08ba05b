"""Saved networks: safetensors weights and a JSON of what rebuilds them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ust.errors import UserError
from ust.files import read_json, replacing, write_json
from ust.models import CNNVGGish, NetworkConfig

WEIGHTS_FILE, DESCRIPTION_FILE = "weights.safetensors", "model.json"


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
    tensors = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    with replacing(folder / WEIGHTS_FILE) as partial:
        save_file(tensors, partial)
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
    return read_json(folder / DESCRIPTION_FILE, made_by="train")


def read_weights(folder: Path, network: torch.nn.Module) -> None:
    """Set a network's weights.

    Raises
    ------
    UserError
        If the file is missing or damaged, or of another network.
    """
    path = folder / WEIGHTS_FILE
    try:
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage train makes it") from None
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: damaged ({reason}); delete it and run the stage train again") from None


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint and rebuild its network.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    description = read_description(folder)
    try:
        network = CNNVGGish(NetworkConfig(**description["network"]))
        labels, about = list(description["labels"]), dict(description["about"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / DESCRIPTION_FILE}: not a description of a network ({error})") from None
    read_weights(folder, network)
    return Checkpoint(network, labels, about)


def parameter_count(network: torch.nn.Module) -> int:
    """Number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())
