"""What a training that was cut short goes on from."""

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
    """The state of one network's training after its last whole epoch, in memory and in a file.

    Attributes
    ----------
    path : Path or None
        The safetensors file; None where a training is not to be gone on with.
    epochs : list of dict
        What each epoch so far came to.
    values : dict
        What else has to be restored, as JSON holds it.
    tensors : dict of str to torch.Tensor
        The same for tensors.
    """

    path: Path | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "TrainingState":
        """The state in a file; that of a training not begun if there is none, or none that can be read."""
        try:
            with safe_open(path, "pt") as file:
                content = json.loads(file.metadata()[KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(path, content["epochs"], content["values"], tensors)
        except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError):
            return cls(path)

    def write(self) -> None:
        """Replace the file, if there is to be one."""
        if self.path is not None:
            content = {"epochs": self.epochs, "values": self.values}
            write_tensors(self.path, self.tensors, {KEY: json.dumps(content)})
