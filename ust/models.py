"""The networks: the report's, over log-mels and VGGish embeddings, and the baseline's, over single frames."""

from collections import OrderedDict
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import nn

from ust.embedding import EMBEDDING, dequantise
from ust.layers import Bilinear, ReLUDropout, StridedConv2d, pointwise_batch_norm
from ust.table1 import TABLE_1, Block

VGGISH_FEATURES = 10 * EMBEDDING


FUSED, HIDDEN = 512, 256


@dataclass(frozen=True)
class NetworkConfig:
    """What rebuilds a network.

    Attributes
    ----------
    outputs : int
        Number of labels.
    fusion : {"concat", "bilinear", "none"}
        "none" leaves out the embeddings.
    conv_dropout, head_dropout : float
    vggish_scale : {"whitened", "raw"}
        What the embeddings are fed as: -2 to 2, or 0 to 255 as they are stored.
    """

    outputs: int
    fusion: str
    conv_dropout: float
    head_dropout: float
    vggish_scale: str = "whitened"

    def to_dict(self) -> dict[str, int | str | float]:
        """As JSON takes it."""
        return asdict(self)


class ConvBlock(nn.Sequential):
    """A `Block` as modules."""

    def __init__(self, block: Block, dropout: float) -> None:
        large = block.stride != (1, 1) and all(
            k % s == 0 for k, s in zip(block.kernel, block.stride, strict=True)
        )
        convolution = StridedConv2d if large else nn.Conv2d
        layers: list[nn.Module] = [
            convolution(block.inputs, block.outputs, block.kernel, block.stride, block.padding),
            nn.BatchNorm2d(block.outputs),
        ]
        if block.pool:
            layers.append(nn.MaxPool2d(block.pool))  # the maximum before the ReLU is the same as after it
        super().__init__(*layers, ReLUDropout(dropout))
        self.pointwise = block.inputs == 1 and block.kernel == (1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take (batch, in, height, width) to (batch, out, …)."""
        if not self.pointwise:
            return super().forward(x)
        convolution, norm, *rest = self
        x = pointwise_batch_norm(convolution, norm, x)
        for layer in rest:
            x = layer(x)
        return x


class Concat(nn.Linear):
    """Fusion of the report's text: both vectors side by side, then a linear layer."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Fuse (batch, 256) and (batch, 1280) to (batch, 512)."""
        return super().forward(torch.cat([first, second], dim=1))


class First(nn.Linear):
    """No fusion: a linear layer on the first vector alone."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Take (batch, 256) to (batch, 512)."""
        return super().forward(first)


class CNNVGGish(nn.Module):
    """The report's network: log-mel through `TABLE_1`, fused with ten VGGish embeddings, to label logits."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.convolutions = nn.Sequential(*(ConvBlock(block, config.conv_dropout) for block in TABLE_1))
        features = TABLE_1[-1].outputs
        self.fusion = {
            "concat": lambda: Concat(features + VGGISH_FEATURES, FUSED),
            "bilinear": lambda: Bilinear(features, VGGISH_FEATURES, FUSED),
            "none": lambda: First(features, FUSED),
        }[config.fusion]()
        self.head = nn.Sequential(
            nn.BatchNorm1d(FUSED),
            nn.ReLU(),
            nn.Dropout(config.head_dropout),
            nn.Linear(FUSED, HIDDEN),
            nn.BatchNorm1d(HIDDEN),
            nn.ReLU(),
            nn.Dropout(config.head_dropout),
            nn.Linear(HIDDEN, config.outputs),
        )
        self.to(memory_format=torch.channels_last)  # a tenth faster on a CPU

    def forward(self, logmel: torch.Tensor, vggish: torch.Tensor) -> torch.Tensor:
        """Logits of each label.

        Parameters
        ----------
        logmel : torch.Tensor [shape=(batch, bands, frames)]
            dB, any floating type; the report's are (128, 862), which the blocks leave 1 × 1 of.
        vggish : torch.Tensor [shape=(batch, 10, 128)]
            Quantised embeddings, 0 to 255.

        Returns
        -------
        torch.Tensor [shape=(batch, labels)]
        """
        # Of larger ones the blocks leave more, which is averaged.
        spectral = self.convolutions(logmel.float().unsqueeze(1)).mean(dim=(2, 3))
        embeddings = dequantise(vggish) if self.config.vggish_scale == "whitened" else vggish.float()
        return self.head(self.fusion(spectral, embeddings.flatten(1)))


class FrameClassifier(nn.Module):
    """The challenge's baseline: a (by default linear) classifier of single VGGish embeddings, standardised.

    Parameters
    ----------
    outputs : int
    hidden_layers, hidden_size : int
        None give logistic regression.
    """

    def __init__(self, outputs: int, hidden_layers: int, hidden_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(EMBEDDING))
        self.register_buffer("scale", torch.ones(EMBEDDING))
        sizes = [EMBEDDING] + [hidden_size] * hidden_layers
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, (inputs, size) in enumerate(pairwise(sizes)):
            layers[f"hidden{index}"] = nn.Linear(inputs, size)
            layers[f"relu{index}"] = nn.ReLU()
        layers["output"] = nn.Linear(sizes[-1], outputs)
        self.layers = nn.Sequential(layers)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits (…, outputs) of quantised embeddings (…, 128)."""
        return self.layers((embeddings.float() - self.mean) / self.scale)
