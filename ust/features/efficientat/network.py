"""EfficientAT's MobileNets, after MobileNetV3-large.

References
----------
Schmid, Koutini & Widmer, Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation,
ICASSP 2023.
"""

from dataclasses import dataclass

import torch
from torch import nn

CLASSES = 527  # of AudioSet
DROPOUT = 0.2


@dataclass(frozen=True)
class Block:
    """Configuration of an inverted residual block at width 1."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hard_swish: bool
    stride: int


STEM = 16
BLOCKS = (
    Block(3, 16, 16, False, False, 1),
    Block(3, 64, 24, False, False, 2),
    Block(3, 72, 24, False, False, 1),
    Block(5, 72, 40, True, False, 2),
    Block(5, 120, 40, True, False, 1),
    Block(5, 120, 40, True, False, 1),
    Block(3, 240, 80, False, True, 2),
    Block(3, 200, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 480, 112, True, True, 1),
    Block(3, 672, 112, True, True, 1),
    Block(5, 672, 160, True, True, 2),
    Block(5, 960, 160, True, True, 1),
    Block(5, 960, 160, True, True, 1),
)
LAST, HIDDEN = 6, 1280  # embedding size in multiples of the last block's channels; classifier's hidden size


def round_channels(count: float) -> int:
    """Round a number of channels to the nearest multiple of 8 that is at least nine tenths of it.

    Examples
    --------
    >>> round_channels(16 * 0.4), round_channels(960 * 0.4), round_channels(20)
    (8, 384, 24)
    """
    nearest = max(8, int(count + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * count else nearest


def embedding_size(width: float) -> int:
    """Return the number of values of an embedding, for a network's width multiplier.

    Examples
    --------
    >>> embedding_size(0.4), embedding_size(1.0)
    (384, 960)
    """
    return LAST * round_channels(BLOCKS[-1].out * width)


def conv_norm_activation(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activation: type | None = None
) -> nn.Sequential:
    """Build a convolution without bias, a batch norm, and an activation if one is given."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=0.001, momentum=0.01),
        *([activation()] if activation else []),
    )


class SqueezeExcitation(nn.Module):
    """Squeeze and excitation: scale each channel by a gate computed from the means of all channels."""

    def __init__(self, size: int) -> None:
        super().__init__()
        squeezed = round_channels(size // 4)
        # Named as in the published weights.
        self.conc_se_layers = nn.ModuleList([nn.ModuleDict()])
        self.conc_se_layers[0]["fc1"] = nn.Linear(size, squeezed)
        self.conc_se_layers[0]["fc2"] = nn.Linear(squeezed, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale (batch, channels, height, width)."""
        layers = self.conc_se_layers[0]
        scale = torch.sigmoid(layers["fc2"](torch.relu(layers["fc1"](x.mean(dim=(2, 3))))))
        return x * scale[:, :, None, None]


class InvertedResidual(nn.Module):
    """An inverted residual block: expansion, depthwise convolution, squeeze and excitation, projection."""

    def __init__(self, block: Block, inputs: int, width: float) -> None:
        super().__init__()
        expanded, out = round_channels(block.expanded * width), round_channels(block.out * width)
        activation = nn.Hardswish if block.hard_swish else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(conv_norm_activation(inputs, expanded, 1, activation=activation))
        layers.append(
            conv_norm_activation(expanded, expanded, block.kernel, block.stride, expanded, activation)
        )
        if block.squeeze:
            layers.append(SqueezeExcitation(expanded))
        layers.append(conv_norm_activation(expanded, out, 1))
        self.block = nn.Sequential(*layers)
        self.residual = block.stride == 1 and inputs == out
        self.out = out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, in, height, width) to (batch, out, …)."""
        return x + self.block(x) if self.residual else self.block(x)


class MobileNet(nn.Module):
    """MobileNet of a given width; parameters have the names of the published weights.

    Parameters
    ----------
    width : float
        Factor of the number of channels; 0.4 for ``mn04_as``.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        size = round_channels(STEM * width)
        layers: list[nn.Module] = [conv_norm_activation(1, size, 3, 2, activation=nn.Hardswish)]
        for block in BLOCKS:
            layers.append(InvertedResidual(block, size, width))
            size = layers[-1].out
        layers.append(conv_norm_activation(size, LAST * size, 1, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.ModuleDict(
            {"2": nn.Linear(LAST * size, int(HIDDEN * width)), "5": nn.Linear(int(HIDDEN * width), CLASSES)}
        )
        self.dropout = nn.Dropout(DROPOUT)

    def feature_maps(self, log_mels: torch.Tensor) -> torch.Tensor:
        """Return the last feature maps (batch, size, height, width) of log-mels (batch, 128, frames)."""
        return self.features(log_mels.unsqueeze(1))

    def forward(self, log_mels: torch.Tensor) -> torch.Tensor:
        """Return embeddings (batch, size) of log-mels (batch, 128, frames)."""
        return self.feature_maps(log_mels).mean(dim=(2, 3))

    def logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return logits of AudioSet's 527 classes (batch, 527) from embeddings."""
        hidden = nn.functional.hardswish(self.classifier["2"](embeddings))
        return self.classifier["5"](self.dropout(hidden))
