"""The architecture ``attention``: attention over the embeddings of frames."""

from typing import ClassVar

import torch
from torch import nn

from ust.models.layers import Architecture, ArchitectureConfig, Shapes, Standardize
from ust.util.config import FractionBelowOne

SMALLEST = 1e-6  # probabilities are clipped to it, so that logits are finite in single precision


class Attention(Architecture):
    """Attention pooling: frame probabilities averaged with learnt weights for each label and frame.

    References
    ----------
    Kong et al., PANNs: Large-Scale Pretrained Audio Neural Networks, TASLP 28 (2020); after Ilse, Tomczak &
    Welling, Attention-based Deep Multiple Instance Learning, ICML 2018.
    """

    inputs: ClassVar[tuple[str, ...]] = ("frames",)

    class Config(ArchitectureConfig):
        """Settings of the architecture."""

        description: ClassVar[str] = "attention over the embeddings of frames"

        dropout: FractionBelowOne = 0.5
        """Dropout rate of the embeddings' values, each dropped in all frames of a clip at once."""

    def __init__(self, config: Config, outputs: int, shapes: Shapes) -> None:
        super().__init__()
        _, size = shapes["frames"]
        self.standardised = Standardize(size)
        self.dropout = nn.Dropout1d(config.dropout)
        self.weigh, self.answer = nn.Linear(size, outputs), nn.Linear(size, outputs)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Raise ValueError if the input is one embedding per clip, without frames."""
        if len(shapes["frames"]) != 2:
            raise ValueError(
                "the feature is one embedding a clip, should have frames: set its frames to true"
            )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of embeddings (batch, frames, size)."""
        # A feature is dropped in all frames of a clip at once.
        x = self.dropout(self.standardised(frames).transpose(1, 2)).transpose(1, 2)
        weights = torch.softmax(self.weigh(x), dim=1)
        probabilities = (weights * torch.sigmoid(self.answer(x))).sum(dim=1)
        return torch.logit(probabilities, eps=SMALLEST)
