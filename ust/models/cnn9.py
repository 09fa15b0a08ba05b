"""The architecture ``cnn9``, of the challenge's organisers after Kong et al.

References
----------
Kong et al., Cross-Task Learning for Audio Tagging, Sound Event Detection and Spatial Localization: DCASE
2019 Baseline Systems, 2019.
"""

from typing import ClassVar

import torch
from torch import nn

from ust.models.layers import ArchitectureConfig, LogMelNetwork, Shapes


class CNN9(LogMelNetwork):
    """CNN9 of Kong et al.: four blocks of two 3 × 3 convolutions, mean over bands, maximum over frames."""

    class Config(ArchitectureConfig):
        """The architecture has no settings."""

        description: ClassVar[str] = "CNN9 of Kong et al. (2019)"

    def __init__(self, config: Config, outputs: int, shapes: Shapes) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for channels in (64, 128, 256, 512):
            for size in (inputs, channels):
                layers += [
                    nn.Conv2d(size, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                ]
            layers.append(nn.AvgPool2d(2))
            inputs = channels
        self.blocks = nn.Sequential(*layers)
        self.answer = nn.Linear(inputs, outputs)

    def forward(self, logmel: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of log-mels (batch, bands, frames)."""
        return self.answer(self.blocks(self.to_image(logmel)).mean(dim=2).amax(dim=2))
