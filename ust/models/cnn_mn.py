"""The report's network with another network's embedding of the clip in the place of VGGish's ten."""

from typing import Any, ClassVar

import torch
from torch import nn

from ust.models.layers import FUSED, TABLE_1, Concat, Dropouts, Shapes, SpectralCNN, check_embedding


class CNNEmbedding(SpectralCNN):
    """A log-mel through the report's Table 1, beside an embedding of the clip, to label logits.

    Parameters
    ----------
    config : CNNEmbedding.Config
    outputs : int
        Number of labels.
    shapes : mapping of str to tuple of int
        Of a clip's inputs.
    """

    inputs: ClassVar[tuple[str, ...]] = ("logmel", "embedding")

    class Config(Dropouts):
        """What of params.yaml rebuilds it."""

        @property
        def description(self) -> str:
            """What it is."""
            return "CNN and an embedding of the clip"

    def __init__(self, config: Any, outputs: int, shapes: Shapes) -> None:
        super().__init__(config, outputs, shapes)
        # On the scale of what the convolutions give, whatever network it is of.
        self.normalised = nn.BatchNorm1d(shapes["embedding"][0], affine=False)

    @staticmethod
    def build_fusion(config: Dropouts, shapes: Shapes) -> nn.Module:
        """What takes the 256 values of the convolutions and the embedding to 512."""
        return Concat(TABLE_1[-1].outputs + shapes["embedding"][0], FUSED)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Check that the inputs are a log-mel that the convolutions leave something of, and one embedding.

        Raises
        ------
        ValueError
            Saying what of the feature should be changed.
        """
        SpectralCNN.check(shapes)
        check_embedding(shapes)

    def forward(self, logmel: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Logits (batch, labels) of log-mels (batch, bands, frames) and embeddings (batch, size)."""
        beside = self.normalised(embedding.float())
        return self.head(self.fusion(self.spectral(logmel), beside))
