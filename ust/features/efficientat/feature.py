"""EfficientAT's embedding as a feature: one per clip, or one per frame of a third of a second."""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ust.features.efficientat.network import BLOCKS, MobileNet, embedding_size
from ust.features.efficientat.weights import RANDOM, RELEASED, load_network, network_width
from ust.features.feature import Embed, Feature
from ust.features.mn_logmel import FRAMES, log_mel
from ust.util.config import PositiveInt, Section

STRIDES = (2, *(block.stride for block in BLOCKS))


class Settings(Section):
    """Settings of the kind ``mn``."""

    frames: bool = False
    """Whether to give an embedding for each third of a second, instead of one for the clip."""
    batch_clips: PositiveInt = 8
    """Clips that go through the network at once."""


class ExtractionConfig(Section):
    """Settings that an embedding depends on."""

    weights: Literal[(*RELEASED, RANDOM)]
    frames: bool


def process_clip(samples: np.ndarray, sample_rate: int, config: ExtractionConfig) -> np.ndarray:
    """Return the network's input for a clip [shape=(128, 1000), float32]."""
    return log_mel(samples, sample_rate)


def shape(config: ExtractionConfig) -> tuple[int, ...]:
    """Return the size of an embedding, after the number of frames if there is one for each."""
    size = embedding_size(network_width(config.weights))
    frames = FRAMES
    for stride in STRIDES:
        frames = -(-frames // stride)
    return (frames, size) if config.frames else (size,)


def load(folder: Path, config: ExtractionConfig, device: torch.device) -> Embed:
    """Load the network; return a function that embeds the log-mels of several clips."""
    network = load_folded_network(folder, config.weights).to(device, memory_format=torch.channels_last)

    def embed(log_mels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            maps = network.feature_maps(torch.from_numpy(log_mels).to(device))
            means = maps.mean(dim=2).transpose(1, 2) if config.frames else maps.mean(dim=(2, 3))
            return means.float().cpu().numpy()

    return embed


def load_folded_network(folder: Path, weights: str) -> MobileNet:
    """Load the network in evaluation mode, with its batch norms folded into its convolutions."""
    network = load_network(folder, network_width(weights))
    fold_batch_norms(network)
    return network


def fold_batch_norms(network: torch.nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place; the network's outputs stay the same."""
    for parent in list(network.modules()):
        layers = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(layers):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                parent.register_module(conv_name, fuse_conv_bn_eval(conv, norm))
                parent.register_module(norm_name, torch.nn.Identity())


FEATURE = Feature(
    Settings,
    ExtractionConfig,
    "float32",
    shape,
    process_clip,
    sources=(
        "ust/features/efficientat",
        "ust/features/mn_logmel.py",
        "ust/features/mel.py",
        "ust/util/device.py",
        "ust/util/seeding.py",
    ),
    packages=("numpy", "resampy", "scipy", "soundfile", "torch"),
    network="efficientat",
    load=load,
)
