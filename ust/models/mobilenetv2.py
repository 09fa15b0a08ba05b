"""The architecture ``mobilenetv2``, rebuilt from the description of the challenge's first place.

References
----------
Adapa, Urban Sound Tagging using Convolutional Neural Networks, DCASE 2019, after Sandler et al., MobileNetV2:
Inverted Residuals and Linear Bottlenecks, CVPR 2018.
"""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from ust.models.layers import ArchitectureConfig, LogMelNetwork, Shapes

# Expansion, channels, number of blocks, stride of the first block: Table 2 of Sandler et al.
BOTTLENECKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
STEM, LAST = 32, 1280


class MobileNetV2(LogMelNetwork):
    """MobileNetV2 on log-mels, with one linear layer as head."""

    class Config(ArchitectureConfig):
        """The architecture has no settings."""

        description: ClassVar[str] = "MobileNetV2 of Adapa (2019)"

    def __init__(self, config: Config, outputs: int, shapes: Shapes) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(1, STEM, 3, stride=2)]
        inputs = STEM
        for expansion, channels, count, stride in BOTTLENECKS:
            for index in range(count):
                layers.append(_Bottleneck(inputs, channels, expansion, stride if index == 0 else 1))
                inputs = channels
        layers.append(_convolution(inputs, LAST, 1))
        self.features = nn.Sequential(*layers)
        self.answer = nn.Linear(LAST, outputs)

    def forward(self, logmel: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of log-mels (batch, bands, frames)."""
        x = self.features(self.to_image(logmel)).mean(dim=(2, 3))
        return self.answer(functional.dropout(x, 0.2, self.training))


class _Bottleneck(nn.Module):
    """An inverted residual block: expansion, depthwise convolution, linear projection."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        expanded = inputs * expansion
        layers = [_convolution(inputs, expanded, 1)] if expansion > 1 else []
        layers.append(_convolution(expanded, expanded, 3, stride=stride, groups=expanded))
        project = (nn.Conv2d(expanded, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.layers = nn.Sequential(*layers, *project)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, in, height, width) to (batch, out, …)."""
        return x + self.layers(x) if self.residual else self.layers(x)


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Build a convolution without bias, a batch norm and a ReLU6."""
    padding = (kernel - 1) // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())
