"""EfficientAT's embeddings as a feature: one of a clip, or one of each third of a second of it."""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ust.audio.recordings import CLIP_SECONDS
from ust.features.efficientat.network import BLOCKS, HOP, SAMPLE_RATE, MobileNet, embedding_size, log_mel
from ust.features.efficientat.weights import RANDOM, RELEASED, load_network, prepare, width_of
from ust.features.feature import Feature, OnBatch
from ust.util.config import Count, Section, Seed

LOG_MEL_FRAMES = CLIP_SECONDS * SAMPLE_RATE // HOP
STRIDES = (2, *(block.stride for block in BLOCKS))


class ExtractionConfig(Section):
    """What an embedding depends on."""

    weights: Literal[(*RELEASED, RANDOM)]
    frames: bool


class EfficientATEmbedding(ExtractionConfig):
    """The section ``mn`` of params.yaml, or ``mn_frames``."""

    checkpoint: str | None
    seed: Seed
    batch_clips: Count


def of_clip(samples: np.ndarray, sample_rate: int, settings: ExtractionConfig) -> np.ndarray:
    """The network's input for a clip [shape=(128, 1000), float32]."""
    return log_mel(samples, sample_rate)


def shape(settings: ExtractionConfig) -> tuple[int, ...]:
    """The size of an embedding, after the number of them if there is one of each frame."""
    size = embedding_size(width_of(settings.weights))
    frames = LOG_MEL_FRAMES
    for stride in STRIDES:
        frames = -(-frames // stride)
    return (frames, size) if settings.frames else (size,)


def on_batch(folder: Path, settings: ExtractionConfig, device: torch.device) -> OnBatch:
    """The network over the log-mels of several clips."""
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
    """The network with the weights that `prepare` wrote, to be asked, its batch norms in its convolutions."""
    network = load_network(folder, width_of(weights))
    fold_batch_norms(network)
    return network


def fold_batch_norms(network: torch.nn.Module) -> None:
    """Put each batch norm into the convolution before it, in place: the same, in one layer instead of two."""
    for parent in list(network.modules()):
        layers = list(parent.named_children())
        for (name, layer), (after, norm) in pairwise(layers):
            if isinstance(layer, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                parent.register_module(name, fuse_conv_bn_eval(layer, norm))
                parent.register_module(after, torch.nn.Identity())


FEATURE = Feature(
    EfficientATEmbedding,
    ExtractionConfig,
    "float32",
    shape,
    of_clip,
    is_embedding=True,
    packages=("numpy", "resampy", "scipy", "soundfile", "torch"),
    prepare=prepare,
    on_batch=on_batch,
)
