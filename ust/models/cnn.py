"""The architecture ``cnn``: the report's network of log-mel spectrograms alone."""

from typing import ClassVar

import torch
from torch import nn

from ust.models.layers import FUSED, TABLE_1, Dropouts, Shapes, SpectralCNN


class CNN(SpectralCNN):
    """The report's network without embeddings: a log-mel through `TABLE_1` to label logits.

    Parameters
    ----------
    config : CNN.Config
    outputs : int
        Number of labels.
    shapes : mapping of str to tuple of int, optional
        Of a clip's inputs; it takes any that `check` allows.
    """

    inputs: ClassVar[tuple[str, ...]] = ("logmel",)

    class Config(Dropouts):
        """What of params.yaml rebuilds it."""

        @property
        def description(self) -> str:
            """What it is."""
            return "CNN"

    @staticmethod
    def build_fusion(config: Dropouts, shapes: Shapes | None) -> nn.Module:
        """What takes the 256 values of the convolutions to 512."""
        return nn.Linear(TABLE_1[-1].outputs, FUSED)

    def forward(self, logmel: torch.Tensor) -> torch.Tensor:
        """Logits of each label.

        Parameters
        ----------
        logmel : torch.Tensor [shape=(batch, bands, frames)]
            dB, any floating type; the report's are (128, 862), which the blocks leave 1 × 1 of.

        Returns
        -------
        torch.Tensor [shape=(batch, labels)]
        """
        return self.head(self.fusion(self.spectral(logmel)))
