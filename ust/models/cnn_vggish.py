"""The architecture ``cnn_vggish``: the report's network of log-mel spectrograms and VGGish embeddings."""

from typing import ClassVar, Literal

import torch
from torch import nn

from ust.features.vggish.embedding import EMBEDDING, dequantise
from ust.models.layers import FUSED, TABLE_1, Concat, Dropouts, Shapes, SpectralCNN

VGGISH_FEATURES = 10 * EMBEDDING


class CNNVGGish(SpectralCNN):
    """The report's network: a log-mel through `TABLE_1`, fused with ten VGGish embeddings, to logits."""

    inputs: ClassVar[tuple[str, ...]] = ("logmel", "vggish")

    class Config(Dropouts):
        """Settings of the architecture."""

        fusion: Literal["concat", "bilinear"] = "concat"
        """Fusion of both inputs: "concat" (the report's text) or "bilinear" (its Table 2)."""
        vggish_scale: Literal["whitened", "raw"] | None = None
        """Scale of the embeddings: "whitened" (-2 to 2), "raw" (0 to 255); None: raw with bilinear."""

        @property
        def scale(self) -> str:
            """Scale of the embeddings; by default raw with the authors' bilinear fusion, else whitened."""
            return self.vggish_scale or ("raw" if self.fusion == "bilinear" else "whitened")

        @property
        def description(self) -> str:
            return f"CNN and VGGish embeddings ({self.fusion})"

    def __init__(self, config: Config, outputs: int, shapes: Shapes | None = None) -> None:
        spectral = TABLE_1[-1].outputs
        if config.fusion == "bilinear":
            fusion = nn.Bilinear(spectral, VGGISH_FEATURES, FUSED)
        else:
            fusion = Concat(spectral + VGGISH_FEATURES, FUSED)
        super().__init__(config, outputs, fusion)
        self.scale = config.scale

    def forward(self, logmel: torch.Tensor, vggish: torch.Tensor) -> torch.Tensor:
        """Compute the logits of all labels.

        Parameters
        ----------
        logmel : torch.Tensor [shape=(batch, bands, frames)]
            As for `CNN`.
        vggish : torch.Tensor [shape=(batch, 10, 128)]
            Quantised embeddings, 0 to 255.

        Returns
        -------
        torch.Tensor [shape=(batch, labels)]
        """
        embeddings = dequantise(vggish) if self.scale == "whitened" else vggish.float()
        return self.head(self.fusion(self.spectral(logmel), embeddings.flatten(1)))
