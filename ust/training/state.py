"""Checkpoints for resuming training."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ust.util.tensors import write_tensors

KEY = "state"


@dataclass
class TrainingState:
    """The state of one network's training after its last complete epoch.

    Attributes
    ----------
    path : Path or None
        The safetensors file; None to keep the state in memory only.
    epochs : list of dict
        Results of the epochs so far.
    values : dict
        State that fits into JSON.
    tensors : dict of str to torch.Tensor
        State in tensors.
    """

    path: Path | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "TrainingState":
        """Read a state; return an empty one if the file is missing or unreadable."""
        try:
            with safe_open(path, "pt") as file:
                content = json.loads(file.metadata()[KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(path, content["epochs"], content["values"], tensors)
        except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError):
            return cls(path)

    def write(self) -> None:
        """Write the file atomically, if there is a path."""
        if self.path is not None:
            content = {"epochs": self.epochs, "values": self.values}
            write_tensors(self.path, self.tensors, {KEY: json.dumps(content)})
