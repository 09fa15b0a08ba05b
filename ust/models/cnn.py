"""The report's networks: the CNN of its Table 1 on log-mels, alone or fused with VGGish embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from ust.features.vggish.embedding import EMBEDDING, dequantise
from ust.util.config import Rate, Section

VGGISH_FEATURES = 10 * EMBEDDING
FUSED, HIDDEN = 512, 256
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Block:
    """A row of Table 1: convolution, batch norm, ReLU, optional max pool, dropout."""

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    pool: tuple[int, int] | None = None

    def module(self, dropout: float) -> nn.Sequential:
        """Build the block's layers."""
        return nn.Sequential(
            nn.Conv2d(self.inputs, self.outputs, self.kernel, self.stride, self.padding),
            nn.BatchNorm2d(self.outputs),
            nn.ReLU(),
            *([nn.MaxPool2d(self.pool)] if self.pool else []),
            nn.Dropout(dropout),
        )


TABLE_1 = (
    Block(1, 8, (1, 1), (1, 1), (0, 0)),
    Block(8, 16, (3, 3), (1, 1), (1, 1)),
    Block(16, 32, (16, 128), (4, 16), (8, 16), (4, 4)),
    Block(32, 64, (5, 5), (2, 2), (1, 1)),
    Block(64, 128, (5, 5), (2, 2), (1, 1)),
    Block(128, 256, (3, 3), (2, 2), (1, 1)),
)


def output_size(bands: int, frames: int) -> tuple[int, int]:
    """Return the height and width that the blocks reduce a log-mel to; below 1 where it is too small.

    Examples
    --------
    >>> output_size(128, 862)
    (1, 1)
    >>> output_size(64, 862)
    (0, 1)
    """
    return _left(bands, 0), _left(frames, 1)


def minimum_size(axis: int) -> int:
    """Return the smallest number of bands (axis 0) or frames (axis 1) that the blocks accept.

    Examples
    --------
    >>> minimum_size(0), minimum_size(1)
    (108, 528)
    """
    return next(size for size in range(1, 10_000) if _left(size, axis) > 0)


def _left(size: int, axis: int) -> int:
    """Return the size of one axis after all blocks; 0 if a kernel is larger than its input."""
    for block in TABLE_1:
        padded = size + 2 * block.padding[axis]
        if padded < block.kernel[axis]:
            return 0
        size = (padded - block.kernel[axis]) // block.stride[axis] + 1
        size //= block.pool[axis] if block.pool else 1
    return size


def build_convolutions(dropout: float) -> nn.Sequential:
    """Build the layers of `TABLE_1`."""
    return nn.Sequential(*(block.module(dropout) for block in TABLE_1))


def build_head(outputs: int, dropout: float) -> nn.Sequential:
    """Build the layers from the 512 fused values to label logits."""
    return nn.Sequential(
        nn.BatchNorm1d(FUSED),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(FUSED, HIDDEN),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, outputs),
    )


class Dropouts(Section):
    """Dropout rates of the convolutions and the head."""

    conv_dropout: Rate
    head_dropout: Rate


class CNN(nn.Module):
    """The report's network without embeddings: log-mel, `TABLE_1`, label logits.

    Parameters
    ----------
    config : CNN.Config
    outputs : int
        Number of labels.
    shapes : mapping of str to tuple of int, optional
        Shape of each input of a clip; any that `check` accepts.
    """

    inputs: ClassVar[tuple[str, ...]] = ("logmel",)
    of_frames: ClassVar[bool] = False

    class Config(Dropouts):
        """Settings of the architecture."""

        @property
        def description(self) -> str:
            """Name of the architecture, for metrics and model cards."""
            return "CNN"

    def __init__(self, config: Dropouts, outputs: int, shapes: Shapes | None = None) -> None:
        super().__init__()
        self.convolutions = build_convolutions(config.conv_dropout)
        self.fusion = self.build_fusion(config, shapes)
        self.head = build_head(outputs, config.head_dropout)

    @staticmethod
    def build_fusion(config: Dropouts, shapes: Shapes | None) -> nn.Module:
        """Build the layer from the 256 values of the convolutions to 512."""
        return nn.Linear(TABLE_1[-1].outputs, FUSED)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Check that the network accepts inputs of these shapes.

        Parameters
        ----------
        shapes : mapping of str to tuple of int
            Shape of each input of a clip.

        Raises
        ------
        ValueError
            Naming the feature's parameter to change.
        """
        bands, frames = shapes["logmel"]
        left = output_size(bands, frames)
        if left[0] < 1:
            raise ValueError(
                f"n_mels is {bands}, should be at least {minimum_size(0)}: the network's "
                "convolutions (the report's Table 1) leave nothing of fewer bands"
            )
        if left[1] < 1:
            raise ValueError(
                f"sample_rate and hop_length give {frames} frames, should be at least {minimum_size(1)}: the "
                "network's convolutions (the report's Table 1) leave nothing of fewer; take a shorter hop"
            )

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

    def spectral(self, logmel: torch.Tensor) -> torch.Tensor:
        """Return the convolutions' output [shape=(batch, 256)], averaged over positions."""
        return self.convolutions(logmel.float().unsqueeze(1)).mean(dim=(2, 3))


class Concat(nn.Linear):
    """Fusion as in the report's text: concatenation followed by a linear layer."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Fuse (batch, 256) and (batch, 1280) to (batch, 512)."""
        return super().forward(torch.cat([first, second], dim=1))


class CNNVGGish(CNN):
    """The report's network: a log-mel through `TABLE_1`, fused with ten VGGish embeddings, to label logits.

    Parameters
    ----------
    config : CNNVGGish.Config
    outputs : int
        Number of labels.
    shapes : mapping of str to tuple of int, optional
        Shape of each input of a clip.
    """

    inputs: ClassVar[tuple[str, ...]] = ("logmel", "vggish")

    class Config(Dropouts):
        """Settings of the architecture."""

        fusion: Literal["concat", "bilinear"]
        vggish_scale: Literal["whitened", "raw"] | None

        @property
        def scale(self) -> str:
            """Scale of the embeddings; by default raw with the authors' bilinear fusion, else whitened."""
            return self.vggish_scale or ("raw" if self.fusion == "bilinear" else "whitened")

        @property
        def description(self) -> str:
            """Name of the architecture, for metrics and model cards."""
            return f"CNN and VGGish embeddings ({self.fusion})"

    def __init__(self, config: Any, outputs: int, shapes: Shapes | None = None) -> None:
        super().__init__(config, outputs, shapes)
        self.scale = config.scale

    @staticmethod
    def build_fusion(config: Any, shapes: Shapes | None) -> nn.Module:
        """Build the layer from the 256 values of the convolutions and the embeddings to 512."""
        features = TABLE_1[-1].outputs
        if config.fusion == "bilinear":
            return nn.Bilinear(features, VGGISH_FEATURES, FUSED)
        return Concat(features + VGGISH_FEATURES, FUSED)

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
