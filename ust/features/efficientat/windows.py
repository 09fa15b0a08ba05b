"""Clip embedding and maximum over windows as a feature, for sounds much shorter than a clip."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from ust.features.efficientat.feature import FEATURE as EMBEDDING
from ust.features.efficientat.feature import load_folded_network
from ust.features.efficientat.network import CLASSES, MobileNet, embedding_size
from ust.features.efficientat.weights import RANDOM, RELEASED, network_width
from ust.features.feature import Embed
from ust.features.mn_logmel import FRAMES
from ust.util.config import PositiveInt, Section

# Adjacent windows that make a clip. Each has at least two frames, as the step is half a window.
Windows = Annotated[int, Field(ge=1, le=FRAMES // 2)]


class Settings(Section):
    """Settings of the kind ``mn_windows``."""

    windows: Windows = 4
    """Adjacent windows that make a clip; windows that overlap their neighbours by half are added."""
    batch_clips: PositiveInt = 8
    """Clips that go through the network at once."""


class ExtractionConfig(Section):
    """Settings that a value depends on."""

    weights: Literal[(*RELEASED, RANDOM)]
    windows: Windows


def window_max_pool(
    network: MobileNet, log_mels: torch.Tensor, windows: int, *, overlap: bool = True
) -> torch.Tensor:
    """Concatenate the clip's embedding with the maxima over windows of their embeddings and class logits.

    Each window goes through the network by itself. On the whole clip, squeeze and excitation and the mean
    over time would suppress short sounds.

    Parameters
    ----------
    network : MobileNet
        In evaluation mode.
    log_mels : torch.Tensor [shape=(batch, 128, frames)]
    windows : int
        Number of adjacent windows that make a clip.
    overlap : bool
        Whether to add windows that overlap their neighbours by half.

    Returns
    -------
    torch.Tensor [shape=(batch, 2 size + 527)]
        Embedding of the clip, maxima of the windows' embeddings, and maxima of their AudioSet logits.
    """
    length = log_mels.shape[2] // windows
    parts = log_mels.unfold(2, length, length // 2 if overlap else length).transpose(1, 2)
    embeddings = network(parts.flatten(0, 1)).unflatten(0, parts.shape[:2])
    maxima = embeddings.amax(dim=1), network.logits(embeddings).amax(dim=1)
    return torch.cat([network(log_mels), *maxima], dim=1)


def window_max_pool_size(width: float) -> int:
    """Return the number of values that `window_max_pool` gives for a network's width."""
    return 2 * embedding_size(width) + CLASSES


def shape(config: ExtractionConfig) -> tuple[int, ...]:
    """Return the number of values of a clip."""
    return (window_max_pool_size(network_width(config.weights)),)


def load(folder: Path, config: ExtractionConfig, device: torch.device) -> Embed:
    """Load the network; return a function from log-mels of several clips to their pooled values."""
    network = load_folded_network(folder, config.weights).to(device, memory_format=torch.channels_last)

    def embed(log_mels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pooled = window_max_pool(network, torch.from_numpy(log_mels).to(device), config.windows)
            return pooled.float().cpu().numpy()

    return embed


FEATURE = replace(EMBEDDING, settings=Settings, extraction_config=ExtractionConfig, shape=shape, load=load)
