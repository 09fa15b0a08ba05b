"""The report's network with a single embedding of the clip in place of the ten VGGish embeddings."""

from typing import Any, ClassVar

import torch
from torch import nn

from ust.models.layers import FUSED, TABLE_1, Concat, Dropouts, Shapes, SpectralCNN, check_embedding


class CNNEmbedding(SpectralCNN):
    """A log-mel through the report's Table 1, fused with an embedding of the clip, to label logits."""

    inputs: ClassVar[tuple[str, ...]] = ("logmel", "embedding")

    class Config(Dropouts):
        """Settings of the architecture."""

        description: ClassVar[str] = "CNN and an embedding of the clip"

    def __init__(self, config: Any, outputs: int, shapes: Shapes) -> None:
        super().__init__(config, outputs, shapes)
        # Brings embeddings of any network to the scale of the convolutions' output.
        self.normalised = nn.BatchNorm1d(shapes["embedding"][0], affine=False)

    @staticmethod
    def build_fusion(config: Dropouts, shapes: Shapes) -> nn.Module:
        """Build the layer from the 256 values of the convolutions and the embedding to 512."""
        return Concat(TABLE_1[-1].outputs + shapes["embedding"][0], FUSED)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Check that the inputs are a log-mel large enough for the convolutions, and one embedding.

        Raises
        ------
        ValueError
            Naming the feature's parameter to change.
        """
        SpectralCNN.check(shapes)
        check_embedding(shapes)

    def forward(self, logmel: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, labels) of log-mels (batch, bands, frames) and embeddings (batch, size)."""
        beside = self.normalised(embedding.float())
        return self.head(self.fusion(self.spectral(logmel), beside))
