"""The architecture ``head``: logistic regression or a multilayer perceptron on the embedding of a clip."""

from collections.abc import Mapping
from typing import ClassVar

from ust.models.layers import HeadConfig, PerceptronHead, check_embedding


class Head(PerceptronHead):
    """A linear layer, or a multilayer perceptron, on the embedding of a clip.

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

    class Config(HeadConfig):
        """Settings of the architecture; without hidden layers it is logistic regression."""

        @property
        def description(self) -> str:
            """Name of the architecture, for metrics and model cards."""
            kind = "multilayer perceptron" if self.hidden_layers else "logistic regression"
            return f"{kind} of the clip's embedding"

    def __init__(self, config: Config, outputs: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        (size,) = shapes["embedding"]
        super().__init__(config, size, outputs)

    @staticmethod
    def check(shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that the input is one embedding per clip, without frames; else raise ValueError."""
        check_embedding(shapes)
