"""Writing safetensors files."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ust.util.files import atomic_write


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors, all of them or none.

    Parameters
    ----------
    path : Path
    tensors : mapping
    metadata : dict of str to str, optional
        One key at most: the order of several differs from run to run.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as partial:
        try:
            save_file(contiguous, partial, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None
