"""VGGish embeddings as a feature: ten per clip, of 0.96 s each, quantised to 8 bits."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import model_validator

from ust.features.feature import Feature, OnBatch
from ust.features.vggish.embedding import EMBEDDING
from ust.features.vggish.network import Embedder, log_mel_patches
from ust.features.vggish.weights import load_weights, prepare
from ust.util.config import Count, Precision, Section, Seed

EXAMPLES_PER_CLIP = 10  # of 0.96 s in ten seconds


class ExtractionConfig(Section):
    """Settings that an embedding depends on, besides the weights."""

    final_relu: bool
    precision: Precision


class VGGish(ExtractionConfig):
    """Settings of the feature ``vggish``."""

    weights: Literal["audioset", "random"]
    checkpoint: str | None
    pca: str | None
    seed: Seed
    batch_clips: Count

    @model_validator(mode="after")
    def _both_files(self) -> "VGGish":
        """Check that both files are given, or neither."""
        if (self.checkpoint is None) != (self.pca is None):
            raise ValueError("checkpoint and pca go together: give both files, or neither to download them")
        return self


def process_clip(samples: np.ndarray, sample_rate: int, settings: ExtractionConfig) -> np.ndarray:
    """Return the network's input for a clip [shape=(10, 96, 64), float32]."""
    return log_mel_patches(samples, sample_rate)


def shape(settings: ExtractionConfig) -> tuple[int, int]:
    """Return the number of embeddings of a clip and their size."""
    return EXAMPLES_PER_CLIP, EMBEDDING


def on_batch(folder: Path, settings: ExtractionConfig, device: torch.device) -> OnBatch:
    """Load the network; return a function that embeds the patches of several clips."""
    embedder = Embedder(
        load_weights(folder), final_relu=settings.final_relu, device=device, precision=settings.precision
    )

    def embed(patches: np.ndarray) -> np.ndarray:
        return embedder(patches.reshape(-1, *patches.shape[2:])).reshape(len(patches), -1, EMBEDDING)

    return embed


FEATURE = Feature(
    VGGish,
    ExtractionConfig,
    "uint8",
    shape,
    process_clip,
    is_embedding=True,
    packages=("numpy", "resampy", "scipy", "soundfile", "torch"),
    prepare=prepare,
    on_batch=on_batch,
)
