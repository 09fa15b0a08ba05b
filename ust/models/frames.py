"""The challenge's baseline: a classifier of single VGGish embeddings."""

from collections import OrderedDict
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn

from ust.features.vggish.embedding import EMBEDDING
from ust.models.layers import Architecture, ArchitectureConfig, Shapes, Standardize
from ust.util.config import NonNegativeInt, PositiveInt


class FrameClassifier(Architecture):
    """A classifier of single, standardised VGGish embeddings, linear by default."""

    inputs: ClassVar[tuple[str, ...]] = ("vggish",)
    own_trainer: ClassVar[bool] = True

    class Config(ArchitectureConfig):
        """Settings of the architecture; without hidden layers it is logistic regression."""

        hidden_layers: NonNegativeInt = 0
        """Number of hidden layers; 0 is logistic regression."""
        hidden_size: PositiveInt = 128
        """Size of each hidden layer."""

        @property
        def description(self) -> str:
            kind = "multilayer perceptron" if self.hidden_layers else "logistic regression"
            return f"{kind} of VGGish frames"

    def __init__(self, config: Config, outputs: int, shapes: Shapes | None = None) -> None:
        super().__init__()
        self.standardised = Standardize(EMBEDDING)
        sizes = [EMBEDDING] + [config.hidden_size] * config.hidden_layers
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, (inputs, size) in enumerate(pairwise(sizes)):
            layers[f"hidden{index}"] = nn.Linear(inputs, size)
            layers[f"relu{index}"] = nn.ReLU()
        layers["output"] = nn.Linear(sizes[-1], outputs)
        self.layers = nn.Sequential(layers)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Raise ValueError if the embeddings have another size."""
        if shapes["vggish"][-1] != EMBEDDING:
            raise ValueError(f"the embeddings have {shapes['vggish'][-1]} values, should have {EMBEDDING}")

    def forward(self, vggish: torch.Tensor) -> torch.Tensor:
        """Return logits (…, outputs) of quantised embeddings (…, 128)."""
        return self.layers(self.standardised(vggish))
