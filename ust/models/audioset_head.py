"""The architecture ``audioset_head``: a head whose logits are combined with those of AudioSet's classes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.models.audioset import AudioSet, complete_config
from ust.models.layers import HeadConfig, PerceptronHead


def complete_head_config(
    config: "AudioSetHead.Config", taxonomy: Taxonomy, labels: Sequence[str]
) -> "AudioSetHead.Config":
    """Return the settings with the AudioSet classes of each of the labels; none for a label without."""
    known = complete_config(AudioSet.Config(classes=config.classes), taxonomy, labels).classes
    return config.model_copy(update={"classes": {label: known.get(label, []) for label in labels}})


class AudioSetHead(PerceptronHead):
    """A head on ``mn_windows``, and the architecture ``audioset`` as its prior.

    The logit of a label is a weighted sum of the head's logit and the prior's, plus a shift. In training mode
    it is the head's logit alone. `combine` sets the weights, which the recipe fits to out-of-fold
    predictions: the fewer clips the head was trained on, the more the prior counts. Labels without AudioSet
    classes have no prior.

    Parameters
    ----------
    config : AudioSetHead.Config
    outputs : int
        Number of labels.
    shapes : mapping of str to tuple of int
        Shape of each input of a clip.

    References
    ----------
    Wolpert, Stacked Generalization, Neural Networks 5 (1992).
    """

    inputs: ClassVar[tuple[str, ...]] = ("embedding",)

    class Config(HeadConfig):
        """Settings of the head and its prior."""

        classes: dict[str, list[str]] | None = None
        """AudioSet classes of each label; null for those of the taxonomy's labels."""

        @property
        def description(self) -> str:
            """Name of the architecture, for metrics and model cards."""
            kind = "multilayer perceptron" if self.hidden_layers else "logistic regression"
            return f"{kind} of the clip's embedding, with AudioSet's classes as prior"

    def __init__(self, config: Config, outputs: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        (size,) = shapes["embedding"]
        super().__init__(config, size, outputs)
        classes = config.classes or {}
        self.with_prior = [index for index, names in enumerate(classes.values()) if names]
        known = {label: names for label, names in classes.items() if names}
        self.audioset = AudioSet(AudioSet.Config(classes=known), len(known), shapes)
        self.register_buffer("head_scale", torch.ones(outputs))
        self.register_buffer("prior_scale", torch.zeros(outputs))
        self.register_buffer("shift", torch.zeros(outputs))

    @staticmethod
    def check(shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that the input ends with logits of AudioSet's classes; else raise ValueError."""
        AudioSet.check(shapes)

    def prior(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return the prior's logits (batch, outputs) of embeddings (batch, size); 0 without classes."""
        columns = [torch.zeros_like(embedding[:, 0])] * len(self.shift)
        for index, logits in zip(self.with_prior, self.audioset(embedding).unbind(1), strict=True):
            columns[index] = logits
        return torch.stack(columns, dim=1)

    def combine(self, head_scale: np.ndarray, prior_scale: np.ndarray, shift: np.ndarray) -> None:
        """Set the weights of head and prior, and the shift, of each label [shape=(outputs,)]."""
        for name, values in {"head_scale": head_scale, "prior_scale": prior_scale, "shift": shift}.items():
            getattr(self, name).copy_(torch.tensor(values))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of embeddings (batch, size)."""
        logits = super().forward(embedding)
        if self.training:
            return logits
        return self.head_scale * logits + self.prior_scale * self.prior(embedding) + self.shift
