"""EfficientAT's MobileNet with a new head, for fine-tuning."""

from typing import ClassVar

import torch

from ust.features.efficientat.network import MobileNet, embedding_size
from ust.features.efficientat.windows import window_max_pool, window_max_pool_size
from ust.features.mn_logmel import BANDS
from ust.models.layers import Architecture, HeadConfig, PerceptronHead, Shapes
from ust.util.config import NonNegativeInt, PositiveFloat


class TaggingMobileNet(Architecture):
    """A pretrained MobileNet with a new `PerceptronHead`, pooled over the clip or over windows."""

    inputs: ClassVar[tuple[str, ...]] = ("log_mel",)

    class Config(HeadConfig):
        """Width of the network, number of windows (0 for none), and settings of the head."""

        width: PositiveFloat = 0.4
        """Width of the network, as that of its pretrained weights."""
        windows: NonNegativeInt = 0
        """Number of windows side by side whose embeddings are pooled by their maximum; 0 for none."""

        @property
        def description(self) -> str:
            return f"MobileNet of width {self.width:g}" + (
                f" over a clip and {self.windows} windows of it" if self.windows else ""
            )

    def __init__(self, config: Config, outputs: int, shapes: Shapes) -> None:
        super().__init__()
        self.pretrained, self.windows = MobileNet(config.width), config.windows
        if not self.windows:
            self.pretrained.classifier = None  # AudioSet's classes are only used with windows
        size = window_max_pool_size(config.width) if self.windows else embedding_size(config.width)
        self.head = PerceptronHead(config, size, outputs)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Raise ValueError if the input is no log-mel with the network's number of bands."""
        shape = shapes["log_mel"]
        if len(shape) != 2 or shape[0] != BANDS:
            raise ValueError(
                f"the feature is {' × '.join(map(str, shape))} a clip, should be log-mels of {BANDS} bands: "
                "take mn_logmel"
            )

    def load_pretrained(self, pretrained: MobileNet) -> None:
        """Copy the weights of a pretrained MobileNet."""
        expected = self.pretrained.state_dict()
        weights = pretrained.state_dict()
        self.pretrained.load_state_dict({name: weights[name] for name in expected})

    def embed(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Embed log-mels (batch, 128, frames) as (batch, size); windows overlap except in training."""
        if not self.windows:
            return self.pretrained(log_mel.float())
        return window_max_pool(self.pretrained, log_mel.float(), self.windows, overlap=not self.training)

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of log-mels (batch, 128, frames)."""
        return self.head(self.embed(log_mel))
