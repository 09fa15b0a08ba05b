"""Where the MobileNets' weights come from: the authors' release, or a seed."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ust.features.efficientat.network import BANDS, MobileNet
from ust.features.feature import FetchFile
from ust.util.digests import file_digest
from ust.util.errors import UserError, bullet_list
from ust.util.seeding import fill_normal, random_stream
from ust.util.tensors import write_tensors

RELEASE = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
# Of Schmid et al., trained on AudioSet, MIT licence: the file, and its SHA-256 where it is known. The
# two digits are ten times the width.
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
WEIGHTS_FILE = "weights.safetensors"
SPARE = 2**20  # bytes of a file beside its tensors
NOT_A_STATE_DICT = (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, TypeError,
                    KeyError, AttributeError, ImportError, IndexError)  # fmt: skip


def width_of(weights: str) -> float:
    """The width of the network that weights are of.

    Examples
    --------
    >>> width_of("mn04_as"), width_of("random")
    (0.4, 0.4)
    """
    return RANDOM_WIDTH if weights == RANDOM else int(weights[2:4]) / 10


def prepare(folder: Path, settings: Any, bring: FetchFile) -> dict[str, str]:
    """Write the weights that params.yaml asks for.

    Parameters
    ----------
    folder : Path
    settings : ust.features.efficientat.feature.EfficientATEmbedding
    bring : Bring

    Returns
    -------
    dict
        ``weights`` and ``sha256``.

    Raises
    ------
    UserError
        As `read_published`.
    """
    width = width_of(settings.weights)
    if settings.weights == RANDOM:
        tensors = random_weights(settings.seed, width)
    elif settings.checkpoint is not None:
        tensors = read_published(bring(settings.checkpoint), width)
    else:
        name, checksum = RELEASED[settings.weights]
        known = f"sha256:{checksum}" if checksum else None
        tensors = read_published(bring(f"{RELEASE}/{name}", checksum=known), width)
    write_tensors(folder / WEIGHTS_FILE, tensors)
    return {"weights": settings.weights, "sha256": file_digest(folder / WEIGHTS_FILE)}


def read_published(path: Path, width: float) -> dict[str, torch.Tensor]:
    """Read a published state dict, without running any code that may be in it.

    Raises
    ------
    UserError
        If the file is missing, damaged, holds anything but tensors, or is of another network.
    """
    wanted = state_shapes(width)
    try:
        size = path.stat().st_size
        most = sum(4 * torch.Size(shape).numel() for shape in wanted.values()) + SPARE
        if size > most:
            raise UserError(f"{path}: is {size:,} bytes long, should be at most {most:,}: of another network")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; mn.checkpoint names the one that mn.weights says, or null to download it"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, should be a state dict of PyTorch") from None
    except NOT_A_STATE_DICT as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: refused: not a state dict of tensors alone, or damaged ({reason})"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UserError(f"{path}: refused: should be a state dict of tensors, and nothing else")
    shapes = {str(name): tuple(tensor.shape) for name, tensor in found.items()}
    problems = [f"{name} is missing" for name in wanted if name not in shapes]
    problems += [f"there is no {name} in it" for name in shapes if name not in wanted]
    problems += [
        f"{name} has shape {shapes[name]}, should have {shape}"
        for name, shape in wanted.items()
        if shapes.get(name, shape) != shape
    ]
    problems += [
        f"{name} has values that are not finite" for name, t in found.items() if not t.isfinite().all()
    ]
    if problems:
        raise UserError(f"{path}: not the MobileNet of width {width}:\n{bullet_list(problems, limit=5)}")
    return found


def state_shapes(width: float) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network's state."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in MobileNet(width).state_dict().items()}


def random_weights(seed: int, width: float) -> dict[str, torch.Tensor]:
    """A network from a seed whose batch norms have seen noise, so that its embeddings are alive.

    The same on every processor: draws are NumPy's, and what the batch norms see is computed in double
    precision, where sums in another order round to the same float32.
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
            module.momentum = None  # the mean over all that it sees
    network.double().train()
    rng = random_stream(seed, "mobilenet", "noise")
    with torch.no_grad():
        for _ in range(4):
            slope = rng.standard_normal((8, 1, 1)) * np.linspace(-1, 1, BANDS)[:, None]
            network(torch.from_numpy(slope + 0.5 * rng.standard_normal((8, BANDS, 200))))
    for name, statistic in network.named_buffers():
        if name.endswith("running_mean"):  # of a norm after a norm it is 0 but for the rounding of sums
            statistic.copy_(statistic.round(decimals=9) + 0.0)  # and never -0
    return network.float().state_dict()


def load_network(folder: Path, width: float) -> MobileNet:
    """The network with the weights that `prepare` wrote, to be asked.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path)
        network = MobileNet(width)
        network.load_state_dict(tensors)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage weights@{folder.name} makes it") from None
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: damaged ({reason}); run the stage weights@{folder.name} again") from None
    return network.eval()
