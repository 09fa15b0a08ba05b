"""The architecture ``head``: logistic regression or a multilayer perceptron on the embedding of a clip."""

from typing import ClassVar

from ust.models.layers import HeadConfig, PerceptronHead, Shapes, check_embedding


class Head(PerceptronHead):
    """A linear layer, or a multilayer perceptron, on the embedding of a clip."""

    inputs: ClassVar[tuple[str, ...]] = ("embedding",)

    class Config(HeadConfig):
        """Settings of the architecture; without hidden layers it is logistic regression."""

        @property
        def description(self) -> str:
            kind = "multilayer perceptron" if self.hidden_layers else "logistic regression"
            return f"{kind} of the clip's embedding"

    def __init__(self, config: Config, outputs: int, shapes: Shapes) -> None:
        (size,) = shapes["embedding"]
        super().__init__(config, size, outputs)

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Check that the input is one embedding per clip, without frames; else raise ValueError."""
        check_embedding(shapes)
