"""The report's network: a convolutional stack over the log-mel, fused with VGGish embeddings."""

from dataclasses import asdict, dataclass

import torch
from torch import nn

from ust.embedding import EMBEDDING, dequantise
from ust.layers import Dropout, StridedConv2d

LOGMEL_SHAPE = (128, 862)
VGGISH_FEATURES = 10 * EMBEDDING


@dataclass(frozen=True)
class Block:
    """A row of Table 1: convolution, batch norm, ReLU, max pool where given, dropout."""

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    pool: tuple[int, int] | None = None


TABLE_1 = (
    Block(1, 8, (1, 1), (1, 1), (0, 0)),
    Block(8, 16, (3, 3), (1, 1), (1, 1)),
    Block(16, 32, (16, 128), (4, 16), (8, 16), (4, 4)),
    Block(32, 64, (5, 5), (2, 2), (1, 1)),
    Block(64, 128, (5, 5), (2, 2), (1, 1)),
    Block(128, 256, (3, 3), (2, 2), (1, 1)),
)
FUSED, HIDDEN = 512, 256


@dataclass(frozen=True)
class NetworkConfig:
    """What rebuilds a network.

    Attributes
    ----------
    outputs : int
        Number of labels.
    fusion : {"concat", "bilinear"}
    conv_dropout, head_dropout : float
    """

    outputs: int
    fusion: str
    conv_dropout: float
    head_dropout: float

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
            nn.ReLU(inplace=True),
        ]
        if block.pool:
            layers.append(nn.MaxPool2d(block.pool))
        super().__init__(*layers, Dropout(dropout))


class Concat(nn.Linear):
    """Fusion of the report's text: both vectors side by side, then a linear layer."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Fuse (batch, 256) and (batch, 1280) to (batch, 512)."""
        return super().forward(torch.cat([first, second], dim=1))


class CNNVGGish(nn.Module):
    """The report's Figure 2: log-mel through `TABLE_1`, fused with ten VGGish embeddings, to label logits."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.convolutions = nn.Sequential(*(ConvBlock(block, config.conv_dropout) for block in TABLE_1))
        features = TABLE_1[-1].outputs
        self.fusion: nn.Module
        if config.fusion == "concat":
            self.fusion = Concat(features + VGGISH_FEATURES, FUSED)
        else:
            self.fusion = nn.Bilinear(features, VGGISH_FEATURES, FUSED)
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

    def forward(self, logmel: torch.Tensor, vggish: torch.Tensor) -> torch.Tensor:
        """Logits of each label.

        Parameters
        ----------
        logmel : torch.Tensor [shape=(batch, 128, 862)]
            dB, any floating type.
        vggish : torch.Tensor [shape=(batch, 10, 128)]
            Quantised embeddings, 0 to 255.

        Returns
        -------
        torch.Tensor [shape=(batch, labels)]
        """
        spectral = self.convolutions(logmel.float().unsqueeze(1)).flatten(1)
        return self.head(self.fusion(spectral, dequantise(vggish).flatten(1)))
