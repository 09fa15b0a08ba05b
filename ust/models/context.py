"""Networks with time and place as a further input, whose logits are added to those of the audio."""

from typing import Any

import torch
from torch import nn

from ust.features.context import CONTEXT, FIRST_BOROUGH, FIRST_COORDINATE, HAS_COORDINATES, HAS_TIME, SIZE
from ust.util.config import FractionBelowOne, NonNegativeFloat, PositiveInt, Section

COORDINATES = slice(FIRST_COORDINATE, HAS_COORDINATES)
# Values that are above 0 if a part of the context is known.
PRESENT = [HAS_TIME, *range(FIRST_BOROUGH, FIRST_COORDINATE), HAS_COORDINATES]
REFERENCES = 256  # train examples over which the mean logit is 0
FARTHEST = 3.0  # deviations; coordinates outside the range of the train clips are clipped to it


class ContextConfig(Section):
    """The key ``context`` of a row: settings of the network of time and place."""

    dropout: FractionBelowOne = 0.5
    """Share of the training examples that lose their time and place."""
    hidden_size: PositiveInt = 32
    """Size of the hidden layer."""
    place_noise: NonNegativeFloat = 1.0
    """Latitude and longitude of a training example move by up to this, in deviations of the train clips."""


class ContextNetwork(nn.Module):
    """Two linear layers from time and place to label logits.

    The logits are 0 for an example whose time and place are not known, and on average over train examples:
    the frequency of a label is left to the network of the audio. In training a random share of the examples,
    ``dropout``, loses its time and place, so that the network of the audio also learns to predict alone.
    Coordinates move by noise in training: otherwise they would tell the sensors of the train clips apart, and
    the network could learn the labels of each sensor.

    Parameters
    ----------
    outputs : int
        Number of labels.
    """

    def __init__(self, config: ContextConfig, outputs: int) -> None:
        super().__init__()
        self.dropout, self.place_noise = config.dropout, config.place_noise
        self.layers = nn.Sequential(
            nn.Linear(SIZE, config.hidden_size), nn.ReLU(), nn.Linear(config.hidden_size, outputs)
        )
        self.register_buffer("mean", torch.zeros(SIZE))
        self.register_buffer("scale", torch.ones(SIZE))
        self.register_buffer("reference", torch.zeros(REFERENCES, SIZE))

    @torch.no_grad()
    def fit(self, values: torch.Tensor) -> None:
        """Estimate mean and deviation of the coordinates from the train examples [shape=(n, 15)].

        Some of them become the references over which the mean logit is 0. Values that no train example has,
        such as a borough without a sensor, have no effect later: their scale is 0.
        """
        self.mean.zero_()
        self.scale.copy_((values != 0).any(dim=0))
        placed = values[values[:, HAS_COORDINATES] > 0][:, COORDINATES].double()
        if len(placed):
            deviation = placed.std(dim=0, correction=0)
            self.mean[COORDINATES] = placed.mean(dim=0).float()
            self.scale[COORDINATES] = torch.where(deviation > 1e-6, 1 / deviation, 0.0).float()
        known = values[values.any(dim=1)]
        if len(known):
            rows = torch.linspace(0, len(known) - 1, REFERENCES).long()
            self.reference.copy_(self._standardise(known[rows].float()))

    @torch.no_grad()
    def zero_last_layer(self) -> None:
        """Set the last layer to 0, so that training starts from the network of the audio alone."""
        for parameter in self.layers[-1].parameters():
            parameter.zero_()

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of vectors (batch, 15) as `ust.features.context` makes them."""
        x, known = self._standardise(context.float()), context[:, HAS_COORDINATES:]
        present = x[:, PRESENT].amax(dim=1, keepdim=True)
        if self.training:
            # Uniform draws from -1 to 1 are equal on every processor; other draws are not.
            present = present * (torch.empty_like(present).uniform_(-1, 1) >= 2 * self.dropout - 1)
            noise = torch.zeros_like(x)
            noise[:, COORDINATES].uniform_(-1, 1)
            x = x + self.place_noise * known * noise
        return present * (self.layers(x) - self.layers(self.reference).mean(dim=0))

    def _standardise(self, context: torch.Tensor) -> torch.Tensor:
        """Standardise the coordinates; the mean is only subtracted from known ones, so that others stay 0."""
        known = context[:, HAS_COORDINATES:]
        return ((context - self.mean * known) * self.scale).clamp(-FARTHEST, FARTHEST)


class NetworkWithContext(nn.Module):
    """Late fusion: the sum of the logits of a network of audio features and of a `ContextNetwork`.

    Parameters
    ----------
    audio : torch.nn.Module
        A network of any architecture that classifies clips.

    Examples
    --------
    >>> from ust.models.head import Head
    >>> audio = Head(Head.Config(), 37, {"embedding": (384,)})
    >>> network = NetworkWithContext(audio, ContextNetwork(ContextConfig(), 37)).eval()
    >>> embedding = torch.rand(2, 384)
    >>> unknown = torch.zeros(2, 15)
    >>> bool((network(context=unknown, embedding=embedding) == audio(embedding)).all())
    True
    """

    def __init__(self, audio: nn.Module, context: ContextNetwork) -> None:
        super().__init__()
        self.audio, self.context = audio, context
        self.inputs = (*audio.inputs, CONTEXT)

    def forward(self, context: torch.Tensor, **features: Any) -> torch.Tensor:
        """Return label logits (batch, outputs)."""
        return self.audio(**features) + self.context(context)


def audio_network(network: nn.Module) -> nn.Module:
    """Return the network of the audio features alone."""
    return network.audio if isinstance(network, NetworkWithContext) else network
