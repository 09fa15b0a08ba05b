"""Layers and base classes that several architectures share.

`Architecture` is the base class of all of them. The others are for networks with the report's convolutions
(`SpectralCNN`), heads on embeddings (`PerceptronHead`) and networks of a log-mel alone (`LogMelNetwork`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import nn

from ust.annotations.taxonomy import Taxonomy
from ust.util.config import FractionBelowOne, NonNegativeInt, PositiveInt, Section

FUSED, HIDDEN = 512, 256
DYNAMIC_RANGE_DB = 80.0  # log-mels go from -80 to 0 dB
Shapes = Mapping[str, tuple[int, ...]]


class ArchitectureConfig(Section):
    """Base class of the settings of architectures.

    Attributes
    ----------
    description : str
        Name of the architecture, for metrics and model cards; a property if it depends on the settings.
    """

    description: ClassVar[str]

    def complete_for_labels(self, taxonomy: Taxonomy, labels: Sequence[str]) -> Self:
        """Return the settings completed for the network's labels; raise ValueError if they do not suit."""
        return self


class Architecture(nn.Module):
    """Base class of networks that a row of params.yaml can name as its ``architecture``.

    A subclass has a class ``Config`` with its settings, an `ArchitectureConfig`, and ``forward``, which takes
    the inputs by name and returns logits [shape=(batch, labels)]. Its constructor takes a ``Config``, the
    number of labels, and a mapping from the name of each input to its shape for one clip, which `check`
    accepts.

    Attributes
    ----------
    inputs : tuple of str
        Names of the inputs.
    own_trainer : bool
        Whether only a trainer whose ``architectures`` list it can train it, not the general ones.
    has_epochs : bool
        Whether it is trained in epochs. If not, `ust.training.train_head` calls its method ``fit`` once.
    """

    inputs: ClassVar[tuple[str, ...]]
    own_trainer: ClassVar[bool] = False
    has_epochs: ClassVar[bool] = True

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Raise ValueError if the network does not accept inputs of these shapes, given for one clip."""


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
    """
    return _output_length(bands, 0), _output_length(frames, 1)


def minimum_size(axis: int) -> int:
    """Return the smallest number of bands (axis 0) or frames (axis 1) that the blocks accept.

    Examples
    --------
    >>> minimum_size(0), minimum_size(1)
    (108, 528)
    """
    return next(size for size in range(1, 10_000) if _output_length(size, axis) > 0)


def _output_length(size: int, axis: int) -> int:
    """Return the size of one axis after all blocks; 0 if a kernel is larger than its input."""
    for block in TABLE_1:
        padded = size + 2 * block.padding[axis]
        if padded < block.kernel[axis]:
            return 0
        size = (padded - block.kernel[axis]) // block.stride[axis] + 1
        size //= block.pool[axis] if block.pool else 1
    return size


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


class Dropouts(ArchitectureConfig):
    """Dropout rates of the convolutions and the head."""

    conv_dropout: FractionBelowOne = 0.2
    """Dropout rate after each block of convolutions, for few epochs. The report's is 0.5."""
    head_dropout: FractionBelowOne = 0.2
    """Dropout rate after each hidden layer of the head."""


class SpectralCNN(Architecture):
    """Base class: a log-mel spectrogram through `TABLE_1`, a fusion layer and `build_head` to logits.

    Parameters
    ----------
    fusion : torch.nn.Module
        Layer from the 256 values of the convolutions, and others fused with them, to 512.
    """

    def __init__(self, config: Dropouts, outputs: int, fusion: nn.Module) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*(block.module(config.conv_dropout) for block in TABLE_1))
        self.fusion = fusion
        self.head = build_head(outputs, config.head_dropout)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Raise ValueError, with the parameter to change, if a log-mel is too small for the convolutions."""
        bands, frames = shapes["logmel"]
        height, width = output_size(bands, frames)
        if height < 1:
            raise ValueError(
                f"n_mels is {bands}, should be at least {minimum_size(0)}: the network's "
                "convolutions (the report's Table 1) reduce fewer bands to size 0"
            )
        if width < 1:
            raise ValueError(
                f"sample_rate and hop_length give {frames} frames, should be at least {minimum_size(1)}: the "
                "network's convolutions (the report's Table 1) reduce fewer to size 0; take a shorter hop"
            )

    def spectral(self, logmel: torch.Tensor) -> torch.Tensor:
        """Return the convolutions' output [shape=(batch, 256)], averaged over positions."""
        return self.convolutions(logmel.float().unsqueeze(1)).mean(dim=(2, 3))


class Concat(nn.Linear):
    """Fusion as in the report's text: concatenation followed by a linear layer."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Map (batch, m) and (batch, n) to (batch, outputs)."""
        return super().forward(torch.cat([first, second], dim=1))


class Standardize(nn.Module):
    """Standardise features to mean 0 and deviation 1 over the training examples."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def fit(self, values: torch.Tensor) -> None:
        """Estimate mean and deviation from values (…, size); constant features are not scaled."""
        rows = values.reshape(-1, values.shape[-1]).double()
        deviation = rows.std(dim=0, correction=0)
        self.mean.copy_(rows.mean(dim=0))
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Standardise (…, size)."""
        return (values.float() - self.mean) / self.scale


class HeadConfig(ArchitectureConfig):
    """Settings of a `PerceptronHead`; no hidden layers give logistic regression."""

    hidden_layers: NonNegativeInt = 0
    """Number of hidden layers; 0 is logistic regression."""
    hidden_size: PositiveInt = 256
    """Size of each hidden layer."""
    dropout: FractionBelowOne = 0.0
    """Dropout rate after each hidden layer."""


class PerceptronHead(Architecture):
    """Standardise embeddings, then a linear layer or a multilayer perceptron to label logits."""

    def __init__(self, config: HeadConfig, size: int, outputs: int) -> None:
        super().__init__()
        self.standardised = Standardize(size)
        layers: list[nn.Module] = []
        for _ in range(config.hidden_layers):
            layers += [nn.Linear(size, config.hidden_size), nn.ReLU(), nn.Dropout(config.dropout)]
            size = config.hidden_size
        self.layers = nn.Sequential(*layers, nn.Linear(size, outputs))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of embeddings (batch, size)."""
        return self.layers(self.standardised(embedding))


def check_embedding(shapes: Shapes) -> None:
    """Check that the input is one embedding per clip; raise ValueError if it has frames."""
    if len(shapes["embedding"]) != 1:
        raise ValueError(
            f"the feature is {' × '.join(map(str, shapes['embedding']))} a clip, should be one "
            "embedding: set its frames to false, or take the architecture attention"
        )


class LogMelNetwork(Architecture):
    """Base class of networks whose only input is a log-mel spectrogram."""

    inputs: ClassVar[tuple[str, ...]] = ("logmel",)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Raise ValueError if the input is no log-mel spectrogram."""
        if len(shapes["logmel"]) != 2:
            raise ValueError("the feature is no log-mel: take logmel")

    @staticmethod
    def to_image(logmel: torch.Tensor) -> torch.Tensor:
        """Scale log-mels (batch, bands, frames) to 0 to 1, as images of one channel."""
        x = logmel.float() / DYNAMIC_RANGE_DB + 1
        return x.unsqueeze(1).contiguous(memory_format=torch.channels_last)
