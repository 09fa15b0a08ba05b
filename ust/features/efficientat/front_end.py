"""What EfficientAT's MobileNets take, as a feature: for whoever trains one further."""

from typing import Literal

import numpy as np

from ust.audio.recordings import CLIP_SECONDS
from ust.features.efficientat.network import BANDS, HOP, SAMPLE_RATE, log_mel
from ust.features.efficientat.weights import RANDOM, RELEASED, prepare
from ust.features.feature import Feature
from ust.util.config import Section, Seed


class ExtractionConfig(Section):
    """The weights that training begins with; a log-mel is the same whatever they are."""

    weights: Literal[(*RELEASED, RANDOM)]


class EfficientATLogMel(ExtractionConfig):
    """The section ``mn_logmel`` of params.yaml."""

    checkpoint: str | None
    seed: Seed


def of_clip(samples: np.ndarray, sample_rate: int, settings: ExtractionConfig) -> np.ndarray:
    """The network's input for a clip [shape=(128, 1000), float16]."""
    return log_mel(samples, sample_rate).astype(np.float16)


def shape(settings: ExtractionConfig) -> tuple[int, int]:
    """Bands and frames of a clip."""
    return BANDS, CLIP_SECONDS * SAMPLE_RATE // HOP


FEATURE = Feature(
    EfficientATLogMel,
    ExtractionConfig,
    "float16",
    shape,
    of_clip,
    is_embedding=False,
    packages=("numpy", "resampy", "scipy", "soundfile"),
    prepare=prepare,
)
