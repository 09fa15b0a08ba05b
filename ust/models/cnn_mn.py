"""The report's network with a single embedding of the clip in place of the ten VGGish embeddings."""

from typing import ClassVar

import torch
from torch import nn

from ust.models.layers import FUSED, TABLE_1, Concat, Dropouts, Shapes, SpectralCNN, check_embedding


class CNNEmbedding(SpectralCNN):
    """A log-mel through the report's Table 1, fused with an embedding of the clip, to label logits."""

    inputs: ClassVar[tuple[str, ...]] = ("logmel", "embedding")

    class Config(Dropouts):
        """Settings of the architecture."""

        description: ClassVar[str] = "CNN and an embedding of the clip"

    def __init__(self, config: Config, outputs: int, shapes: Shapes) -> None:
        (size,) = shapes["embedding"]
        super().__init__(config, outputs, Concat(TABLE_1[-1].outputs + size, FUSED))
        # Brings embeddings of any network to the scale of the convolutions' output.
        self.normalised = nn.BatchNorm1d(size, affine=False)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Raise ValueError if the log-mel is too small for the convolutions, or the embedding has frames."""
        SpectralCNN.check(shapes)
        check_embedding(shapes)

    def forward(self, logmel: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, labels) of log-mels (batch, bands, frames) and embeddings (batch, size)."""
        beside = self.normalised(embedding.float())
        return self.head(self.fusion(self.spectral(logmel), beside))
