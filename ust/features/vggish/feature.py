"""VGGish embeddings as a feature: ten per clip, of 0.96 s each, quantised to 8 bits."""

from pathlib import Path

import numpy as np
import torch

from ust.features.feature import Embed, Feature
from ust.features.vggish.embedding import EMBEDDING
from ust.features.vggish.network import Embedder, log_mel_patches
from ust.features.vggish.weights import load_weights
from ust.util.config import PositiveInt, Precision, Section

EXAMPLES_PER_CLIP = 10  # of 0.96 s in ten seconds


class Settings(Section):
    """Settings of the kind ``vggish``."""

    batch_clips: PositiveInt = 4
    """Clips that go through the network at once."""


class ExtractionConfig(Section):
    """Settings that an embedding depends on, besides the weights."""

    final_relu: bool
    precision: Precision


def process_clip(samples: np.ndarray, sample_rate: int, config: ExtractionConfig) -> np.ndarray:
    """Return the network's input for a clip [shape=(10, 96, 64), float32]."""
    return log_mel_patches(samples, sample_rate)


def shape(config: ExtractionConfig) -> tuple[int, int]:
    """Return the number of embeddings of a clip and their size."""
    return EXAMPLES_PER_CLIP, EMBEDDING


def load(folder: Path, config: ExtractionConfig, device: torch.device) -> Embed:
    """Load the network; return a function that embeds the patches of several clips."""
    embedder = Embedder(
        load_weights(folder), final_relu=config.final_relu, device=device, precision=config.precision
    )

    def embed(patches: np.ndarray) -> np.ndarray:
        return embedder(patches.reshape(-1, *patches.shape[2:])).reshape(len(patches), -1, EMBEDDING)

    return embed


FEATURE = Feature(
    Settings,
    ExtractionConfig,
    "uint8",
    shape,
    process_clip,
    sources=(
        "ust/features/vggish",
        "ust/features/mel.py",
        "ust/util/accelerate.py",
        "ust/util/device.py",
        "ust/util/seeding.py",
    ),
    packages=("numpy", "resampy", "scipy", "soundfile", "torch"),
    network="vggish",
    load=load,
)
