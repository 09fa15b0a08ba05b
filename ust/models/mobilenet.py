"""EfficientAT's MobileNet with a head for other labels, to be trained as a whole."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from ust.features.efficientat.network import BANDS, MobileNet, embedding_size
from ust.features.efficientat.windows import window_max_pool, window_max_pool_size
from ust.models.layers import HeadConfig, PerceptronHead
from ust.util.config import Positive, Whole


class TaggingMobileNet(nn.Module):
    """The MobileNet on its log-mels, of a clip or the maximum over windows, and a `PerceptronHead` to logits.

    Parameters
    ----------
    config : TaggingMobileNet.Config
    outputs : int
        Number of labels.
    shapes : mapping of str to tuple of int
        Of a clip's inputs.
    """

    inputs: ClassVar[tuple[str, ...]] = ("log_mel",)
    of_frames: ClassVar[bool] = False

    class Config(HeadConfig):
        """What of params.yaml rebuilds it: the width of the network, windows (0: none), and its head."""

        width: Positive
        windows: Whole

        @property
        def description(self) -> str:
            """What it is."""
            return f"MobileNet of width {self.width:g}" + (
                f" over a clip and {self.windows} windows of it" if self.windows else ""
            )

    def __init__(self, config: Config, outputs: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.pretrained, self.windows = MobileNet(config.width), config.windows
        if not self.windows:
            self.pretrained.classifier = None  # of AudioSet's classes, which nothing asks for
        size = window_max_pool_size(config.width) if self.windows else embedding_size(config.width)
        self.head = PerceptronHead(config, size, outputs)

    @staticmethod
    def check(shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that the input is log-mels of the network's bands.

        Raises
        ------
        ValueError
            If it is not.
        """
        shape = shapes["log_mel"]
        if len(shape) != 2 or shape[0] != BANDS:
            raise ValueError(
                f"the feature is {' × '.join(map(str, shape))} a clip, should be log-mels of {BANDS} bands: "
                "take mn_logmel"
            )

    def take(self, pretrained: MobileNet) -> None:
        """Take the weights of another MobileNet."""
        own = self.pretrained.state_dict()
        found = pretrained.state_dict()
        self.pretrained.load_state_dict({name: found[name] for name in own})

    def embed(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Embeddings (batch, size) of log-mels (batch, 128, frames); windows overlap but in training."""
        if not self.windows:
            return self.pretrained(log_mel.float())
        return window_max_pool(self.pretrained, log_mel.float(), self.windows, overlap=not self.training)

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Logits (batch, outputs) of log-mels (batch, 128, frames)."""
        return self.head(self.embed(log_mel))
