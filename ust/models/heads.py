"""Heads on pretrained embeddings: a classifier of the clip's embedding, or attention over frames."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from ust.util.config import Count, Rate, Section, Whole

SMALLEST = 1e-6  # probabilities are clipped to it, so that logits are finite in single precision


class Standardize(nn.Module):
    """Standardise features to mean 0 and deviation 1 over the training examples.

    Parameters
    ----------
    size : int
        Size of the last axis.
    """

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


class Head(nn.Module):
    """A linear layer or multilayer perceptron on the embedding of a clip.

    Parameters
    ----------
    config : Head.Config
    outputs : int
        Number of labels.
    shapes : mapping of str to tuple of int
        Shape of each input of a clip.
    """

    inputs: ClassVar[tuple[str, ...]] = ("embedding",)
    of_frames: ClassVar[bool] = False

    class Config(Section):
        """Settings of the architecture; without hidden layers it is logistic regression."""

        hidden_layers: Whole
        hidden_size: Count
        dropout: Rate

        @property
        def description(self) -> str:
            """Name of the architecture, for metrics and model cards."""
            kind = "multilayer perceptron" if self.hidden_layers else "logistic regression"
            return f"{kind} of the clip's embedding"

    def __init__(self, config: Config, outputs: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        (size,) = shapes["embedding"]
        self.standardised = Standardize(size)
        layers: list[nn.Module] = []
        for _ in range(config.hidden_layers):
            layers += [nn.Linear(size, config.hidden_size), nn.ReLU(), nn.Dropout(config.dropout)]
            size = config.hidden_size
        self.layers = nn.Sequential(*layers, nn.Linear(size, outputs))

    @staticmethod
    def check(shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that the input is one embedding per clip.

        Raises
        ------
        ValueError
            If the input has frames.
        """
        if len(shapes["embedding"]) != 1:
            raise ValueError(
                f"the feature is {' × '.join(map(str, shapes['embedding']))} a clip, should be one "
                "embedding: set its frames to false, or take the architecture attention"
            )

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of embeddings (batch, size)."""
        return self.layers(self.standardised(embedding))


class Attention(nn.Module):
    """Attention pooling: frame probabilities averaged with learnt weights for each label and frame.

    Parameters
    ----------
    config : Attention.Config
    outputs : int
        Number of labels.
    shapes : mapping of str to tuple of int
        Shape of each input of a clip.

    References
    ----------
    Kong et al., PANNs: Large-Scale Pretrained Audio Neural Networks, TASLP 28 (2020); after Ilse, Tomczak &
    Welling, Attention-based Deep Multiple Instance Learning, ICML 2018.
    """

    inputs: ClassVar[tuple[str, ...]] = ("frames",)
    of_frames: ClassVar[bool] = False

    class Config(Section):
        """Settings of the architecture."""

        dropout: Rate

        @property
        def description(self) -> str:
            """Name of the architecture, for metrics and model cards."""
            return "attention over the embeddings of frames"

    def __init__(self, config: Config, outputs: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        _, size = shapes["frames"]
        self.standardised = Standardize(size)
        self.dropout = nn.Dropout1d(config.dropout)
        self.weigh, self.answer = nn.Linear(size, outputs), nn.Linear(size, outputs)

    @staticmethod
    def check(shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that the input has frames.

        Raises
        ------
        ValueError
            If the input is one embedding per clip.
        """
        if len(shapes["frames"]) != 2:
            raise ValueError(
                "the feature is one embedding a clip, should have frames: set its frames to true"
            )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of embeddings (batch, frames, size)."""
        # A feature is dropped in all frames of a clip at once.
        x = self.dropout(self.standardised(frames).transpose(1, 2)).transpose(1, 2)
        weights = torch.softmax(self.weigh(x), dim=1)
        probabilities = (weights * torch.sigmoid(self.answer(x))).sum(dim=1)
        return torch.logit(probabilities, eps=SMALLEST)
