"""What stands out in a clip, as a feature: most sounds are shorter than its ten seconds."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from ust.features.efficientat.feature import FEATURE as EMBEDDING
from ust.features.efficientat.feature import LOG_MEL_FRAMES, load_folded_network
from ust.features.efficientat.network import CLASSES, MobileNet, embedding_size
from ust.features.efficientat.weights import RANDOM, RELEASED, width_of
from ust.features.feature import OnBatch
from ust.util.config import Count, Section, Seed


class ExtractionConfig(Section):
    """What the values depend on; so many windows make a clip, side by side."""

    weights: Literal[(*RELEASED, RANDOM)]
    windows: Annotated[int, Field(ge=1, le=LOG_MEL_FRAMES // 2)]  # two frames each: half a window is the step


class EfficientATWindows(ExtractionConfig):
    """The section ``mn_windows`` of params.yaml."""

    checkpoint: str | None
    seed: Seed
    batch_clips: Count


def window_max_pool(
    network: MobileNet, log_mels: torch.Tensor, windows: int, *, overlap: bool = True
) -> torch.Tensor:
    """The embedding of each clip, and the most that any of its windows has of each value and class.

    Windows go through the network one by one: its squeeze and excitation would weigh channels by the whole
    clip, and a mean over it has little of what is short.

    Parameters
    ----------
    network : MobileNet
        In evaluation.
    log_mels : torch.Tensor [shape=(batch, 128, frames)]
    windows : int
        How many make a clip, side by side.
    overlap : bool
        Whether there are those that lie half on one of them and half on the next, too.

    Returns
    -------
    torch.Tensor [shape=(batch, 2 size + 527)]
        Embedding of the clip, maxima of the windows' embeddings, and of their logits of AudioSet's classes.
    """
    length = log_mels.shape[2] // windows
    parts = log_mels.unfold(2, length, length // 2 if overlap else length).transpose(1, 2)
    embeddings = network(parts.flatten(0, 1)).unflatten(0, parts.shape[:2])
    maxima = embeddings.amax(dim=1), network.logits(embeddings).amax(dim=1)
    return torch.cat([network(log_mels), *maxima], dim=1)


def window_max_pool_size(width: float) -> int:
    """How many values `window_max_pool` has of a network of a width.

    Examples
    --------
    >>> outstanding_size(0.4)
    1295
    """
    return 2 * embedding_size(width) + CLASSES


def shape(settings: ExtractionConfig) -> tuple[int, ...]:
    """The number of values of a clip."""
    return (window_max_pool_size(width_of(settings.weights)),)


def on_batch(folder: Path, settings: ExtractionConfig, device: torch.device) -> OnBatch:
    """The network over the log-mels of several clips, and of their windows."""
    network = load_folded_network(folder, settings.weights).to(device, memory_format=torch.channels_last)

    def embed(log_mels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = window_max_pool(network, torch.from_numpy(log_mels).to(device), settings.windows)
            return found.float().cpu().numpy()

    return embed


FEATURE = replace(
    EMBEDDING, settings=EfficientATWindows, computed=ExtractionConfig, shape=shape, on_batch=on_batch
)
