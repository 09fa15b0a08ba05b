"""Weights of EfficientAT's MobileNets: the authors' release, or random ones from a seed."""

import pickle
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ust.features.efficientat.network import HIDDEN, MobileNet, embedding_size
from ust.features.feature import WEIGHTS_FILE, FetchFile, Network
from ust.features.mn_logmel import BANDS
from ust.util.config import Section, Seed
from ust.util.digests import file_digest
from ust.util.errors import UserError, bullet_list, single_line
from ust.util.seeding import fill_normal, random_stream
from ust.util.tensors import write_tensors

RELEASE = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
# Weights of Schmid et al., trained on AudioSet, MIT licence: file name and, where known, SHA-256. The two
# digits of a name are ten times the network's width.
RELEASED = {
    "mn01_as": ("mn01_as_mAP_298.pt", None),
    "mn02_as": ("mn02_as_mAP_378.pt", None),
    "mn04_as": ("mn04_as_mAP_432.pt", "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"),
    "mn05_as": ("mn05_as_mAP_443.pt", None),
    "mn10_as": ("mn10_as_mAP_471.pt", None),
    "mn20_as": ("mn20_as_mAP_478.pt", None),
    "mn30_as": ("mn30_as_mAP_482.pt", None),
    "mn40_as": ("mn40_as_mAP_484.pt", None),
}
RANDOM, RANDOM_WIDTH = "random", 0.4
SPARE = 2**20  # bytes of a checkpoint in addition to its tensors
# Exceptions that `torch.load` raises for a file that is no state dict of tensors.
STATE_DICT_ERRORS = (
    pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, TypeError, KeyError,
    AttributeError, ImportError, IndexError, OSError,
)  # fmt: skip


class EfficientATConfig(Section):
    """The section ``efficientat`` of params.yaml."""

    weights: Literal[(*RELEASED, RANDOM)] = RANDOM
    """Released weights, trained on AudioSet (``mn01_as`` to ``mn40_as``), or ``random``."""
    checkpoint: str | None = None
    """The release's .pt file, relative to the project; null downloads it."""
    seed: Seed = 2019
    """Seed of random weights."""


def network_width(weights: str) -> float:
    """Return the width multiplier of the network that has these weights.

    Examples
    --------
    >>> network_width("mn04_as"), network_width("random")
    (0.4, 0.4)
    """
    return RANDOM_WIDTH if weights == RANDOM else int(weights[2:4]) / 10


def prepare(folder: Path, settings: EfficientATConfig, fetch_file: FetchFile) -> dict[str, str]:
    """Write the weights that params.yaml selects; return ``weights`` and ``sha256``."""
    width = network_width(settings.weights)
    if settings.weights == RANDOM:
        tensors = draw_random_weights(settings.seed, width)
    elif settings.checkpoint is not None:
        tensors = read_published(fetch_file(settings.checkpoint), width)
    else:
        name, checksum = RELEASED[settings.weights]
        known = f"sha256:{checksum}" if checksum else None
        tensors = read_published(fetch_file(f"{RELEASE}/{name}", checksum=known), width)
    write_tensors(folder / WEIGHTS_FILE, tensors)
    return {"weights": settings.weights, "sha256": file_digest(folder / WEIGHTS_FILE)}


def read_published(path: Path, width: float) -> dict[str, torch.Tensor]:
    """Read a published state dict without unpickling arbitrary objects.

    Raises
    ------
    UserError
        If the file is missing or damaged, holds anything but tensors, or belongs to another network.
    """
    expected = state_shapes(width)
    tensors = _read_tensors(path, width)
    shapes = {str(name): tuple(tensor.shape) for name, tensor in tensors.items()}
    problems = [f"{name} is missing" for name in expected if name not in shapes]
    problems += [f"there is no {name} in it" for name in shapes if name not in expected]
    problems += [
        f"{name} has shape {shapes[name]}, should have {shape}"
        for name, shape in expected.items()
        if shapes.get(name, shape) != shape
    ]
    problems += [
        f"{name} has values that are not finite"
        for name, tensor in tensors.items()
        if not tensor.isfinite().all()
    ]
    if problems:
        raise UserError(f"{path}: not the MobileNet of width {width}:\n{bullet_list(problems, limit=5)}")
    return tensors


def _read_tensors(path: Path, width: float) -> dict[str, torch.Tensor]:
    """Read a state dict of tensors that is no larger than that of a network."""
    try:
        size = path.stat().st_size
        size_limit = sum(4 * torch.Size(shape).numel() for shape in state_shapes(width).values()) + SPARE
        if size > size_limit:
            raise UserError(
                f"{path}: is {size:,} bytes long, should be at most {size_limit:,}: of another network"
            )
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; efficientat.checkpoint should name the released weights, or be null"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, should be a state dict of PyTorch") from None
    except STATE_DICT_ERRORS as error:
        raise UserError(
            f"{path}: refused: not a state dict of tensors alone, or damaged ({single_line(error)})"
        ) from None
    if not isinstance(tensors, dict) or not all(
        isinstance(value, torch.Tensor) for value in tensors.values()
    ):
        raise UserError(f"{path}: refused: should be a state dict of tensors, and nothing else")
    return tensors


def find_released_name(path: Path) -> str:
    """Return the name of the released weights for a network as wide as that of a state dict."""
    tensors = _read_tensors(path, max(map(network_width, RELEASED)))
    layer = tensors.get("classifier.2.weight")
    for name in RELEASED:
        width = network_width(name)
        if layer is not None and layer.shape == (int(HIDDEN * width), embedding_size(width)):
            return name
    raise UserError(f"{path}: not the weights of a MobileNet of EfficientAT's release: {', '.join(RELEASED)}")


def state_shapes(width: float) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in the network's state dict, by name."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in MobileNet(width).state_dict().items()}


def draw_random_weights(seed: int, width: float) -> dict[str, torch.Tensor]:
    """Return random weights from a seed, with batch-norm statistics estimated on noise.

    The result is the same on every processor: NumPy draws the weights, and the statistics are computed in
    double precision, where another order of summation rounds to the same float32.
    """
    network = MobileNet(width)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            scale = (2 / parameter[0].numel()) ** 0.5
            fill_normal(parameter.detach().numpy(), scale, random_stream(seed, "mobilenet", name))
        elif name.endswith("bias"):
            parameter.data.zero_()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # cumulative average over all batches
    network.double().train()
    rng = random_stream(seed, "mobilenet", "noise")
    with torch.no_grad():
        for _ in range(4):
            slope = rng.standard_normal((8, 1, 1)) * np.linspace(-1, 1, BANDS)[:, None]
            network(torch.from_numpy(slope + 0.5 * rng.standard_normal((8, BANDS, 200))))
    for name, statistic in network.named_buffers():
        if name.endswith("running_mean"):  # 0 up to rounding where a norm follows a norm
            statistic.copy_(statistic.round(decimals=9) + 0.0)  # and never -0
    return network.float().state_dict()


def load_network(folder: Path, width: float) -> MobileNet:
    """Load the network with the weights that `prepare` wrote, in evaluation mode."""
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path)
        network = MobileNet(width)
        network.load_state_dict(tensors)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage weights@{folder.name} makes it") from None
    except (SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{path}: damaged ({single_line(error)}); run the stage weights@{folder.name} again"
        ) from None
    return network.eval()


NETWORK = Network(EfficientATConfig, prepare)
