"""EfficientAT's embeddings as a feature: one per clip, or one per frame of a third of a second."""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ust.audio.recordings import CLIP_SECONDS
from ust.features.efficientat.network import BLOCKS, HOP, SAMPLE_RATE, MobileNet, embedding_size, log_mel
from ust.features.efficientat.weights import RANDOM, RELEASED, load_network, network_width, prepare
from ust.features.feature import Feature, OnBatch
from ust.util.config import Count, Section, Seed

LOG_MEL_FRAMES = CLIP_SECONDS * SAMPLE_RATE // HOP
STRIDES = (2, *(block.stride for block in BLOCKS))


class ExtractionConfig(Section):
    """Settings that an embedding depends on."""

    weights: Literal[(*RELEASED, RANDOM)]
    frames: bool


class EfficientATEmbedding(ExtractionConfig):
    """Settings of the features ``mn`` and ``mn_frames``."""

    checkpoint: str | None
    seed: Seed
    batch_clips: Count


def process_clip(samples: np.ndarray, sample_rate: int, settings: ExtractionConfig) -> np.ndarray:
    """Return the network's input for a clip [shape=(128, 1000), float32]."""
    return log_mel(samples, sample_rate)


def shape(settings: ExtractionConfig) -> tuple[int, ...]:
    """Return the size of an embedding, after the number of frames if there is one for each."""
    size = embedding_size(network_width(settings.weights))
    frames = LOG_MEL_FRAMES
    for stride in STRIDES:
        frames = -(-frames // stride)
    return (frames, size) if settings.frames else (size,)


def on_batch(folder: Path, settings: ExtractionConfig, device: torch.device) -> OnBatch:
    """Load the network; return a function that embeds the log-mels of several clips."""
    features = load_folded_network(folder, settings.weights).features.to(
        device, memory_format=torch.channels_last
    )

    def embed(log_mels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            maps = features(torch.from_numpy(log_mels).to(device).unsqueeze(1))
            means = maps.mean(dim=2).transpose(1, 2) if settings.frames else maps.mean(dim=(2, 3))
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
    EfficientATEmbedding,
    ExtractionConfig,
    "float32",
    shape,
    process_clip,
    is_embedding=True,
    packages=("numpy", "resampy", "scipy", "soundfile", "torch"),
    prepare=prepare,
    on_batch=on_batch,
)
