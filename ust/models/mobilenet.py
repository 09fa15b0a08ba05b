"""EfficientAT's MobileNet with a head for other labels, to be trained as a whole."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from ust.features.mn.network import BANDS, MobileNet, embedding_size
from ust.files.settings import Positive
from ust.models.heads import Head


class TaggingMobileNet(nn.Module):
    """From the MobileNet's log-mels by its feature maps, their mean and a `Head` to label logits.

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

    class Config(Head.Config):
        """What of params.yaml rebuilds it: the width of the network, and its head."""

        width: Positive

        @property
        def words(self) -> str:
            """What it is."""
            return f"MobileNet of width {self.width:g}"

    def __init__(self, config: Config, outputs: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.features = MobileNet(config.width).features
        self.head = Head(config, outputs, {"embedding": (embedding_size(config.width),)})

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

    def embed(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Embeddings (batch, size) of log-mels (batch, 128, frames)."""
        x = log_mel.float().unsqueeze(1).contiguous(memory_format=torch.channels_last)
        return self.features(x).mean(dim=(2, 3))

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Logits (batch, outputs) of log-mels (batch, 128, frames)."""
        return self.head(self.embed(log_mel))
