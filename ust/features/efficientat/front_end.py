"""The log-mel spectrogram that EfficientAT's MobileNets take, as a feature for fine-tuning them."""

from typing import Literal

import numpy as np

from ust.audio.recordings import CLIP_SECONDS
from ust.features.efficientat.network import BANDS, HOP, SAMPLE_RATE, log_mel
from ust.features.efficientat.weights import RANDOM, RELEASED, prepare
from ust.features.feature import Feature
from ust.util.config import Section, Seed


class ExtractionConfig(Section):
    """The pretrained weights to fine-tune; the log-mel does not depend on them."""

    weights: Literal[(*RELEASED, RANDOM)]


class EfficientATLogMel(ExtractionConfig):
    """Settings of the feature ``mn_logmel``."""

    checkpoint: str | None
    seed: Seed


def process_clip(samples: np.ndarray, sample_rate: int, settings: ExtractionConfig) -> np.ndarray:
    """Return the network's input for a clip [shape=(128, 1000), float16]."""
    return log_mel(samples, sample_rate).astype(np.float16)


def shape(settings: ExtractionConfig) -> tuple[int, int]:
    """Return the bands and frames of a clip."""
    return BANDS, CLIP_SECONDS * SAMPLE_RATE // HOP


FEATURE = Feature(
    EfficientATLogMel,
    ExtractionConfig,
    "float16",
    shape,
    process_clip,
    is_embedding=False,
    packages=("numpy", "resampy", "scipy", "soundfile"),
    prepare=prepare,
)
