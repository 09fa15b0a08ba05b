"""The architecture ``cnn``: the report's network of log-mel spectrograms alone."""

from typing import ClassVar

import torch
from torch import nn

from ust.models.layers import FUSED, TABLE_1, Dropouts, Shapes, SpectralCNN


class CNN(SpectralCNN):
    """The report's network without embeddings: log-mel, `TABLE_1`, label logits."""

    inputs: ClassVar[tuple[str, ...]] = ("logmel",)

    class Config(Dropouts):
        """Settings of the architecture."""

        description: ClassVar[str] = "CNN"

    def __init__(self, config: Config, outputs: int, shapes: Shapes | None = None) -> None:
        super().__init__(config, outputs, nn.Linear(TABLE_1[-1].outputs, FUSED))

    def forward(self, logmel: torch.Tensor) -> torch.Tensor:
        """Compute the logits of all labels.

        Parameters
        ----------
        logmel : torch.Tensor [shape=(batch, bands, frames)]
            dB, any floating type. The report's size (128, 862) is reduced to 1 × 1 by the blocks.

        Returns
        -------
        torch.Tensor [shape=(batch, labels)]
        """
        return self.head(self.fusion(self.spectral(logmel)))
