"""The architecture ``audioset``: labels as groups of AudioSet's classes, without training."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from ust.features.efficientat.audioset import check_classes, class_indices, typical_logits
from ust.features.efficientat.network import CLASSES
from ust.util.config import Positive, Section, Weight


class AudioSet(nn.Module):
    """Logits of labels from the AudioSet logits of a clip's windows, the last 527 values of ``mn_windows``.

    The odds of a label are the sum of the odds of its classes. The network predicts some classes, such as
    music, more readily than others; a share of each class's typical logit is subtracted to correct for that.

    Parameters
    ----------
    config : AudioSet.Config
    outputs : int
        Number of labels.
    shapes : mapping of str to tuple of int
        Shape of each input of a clip.
    """

    inputs: ClassVar[tuple[str, ...]] = ("embedding",)
    of_frames: ClassVar[bool] = False

    class Config(Section):
        """Settings of the architecture.

        Attributes
        ----------
        classes : dict of str to list of str, optional
            AudioSet classes of each output; by default those of the taxonomy's labels.
        typical : float
            Share of a class's typical logit that is subtracted.
        scale, shift : float
            Calibration of all labels together.
        """

        classes: dict[str, list[str]] | None = None
        typical: Weight = 0.5
        scale: Positive = 0.72
        shift: float = -1.44

        @property
        def description(self) -> str:
            """Name of the architecture, for metrics and model cards."""
            return "groups of AudioSet's classes, without training"

    def __init__(self, config: Config, outputs: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        check_classes(config.classes or {}, "classes")
        known = class_indices()
        members = torch.zeros(outputs, CLASSES)
        for row, names in zip(members, config.classes.values(), strict=True):
            row[[known[name] for name in names]] = 1
        self.register_buffer("members", members)
        self.register_buffer("offsets", config.typical * torch.tensor(typical_logits()))
        self.scale, self.shift = config.scale, config.shift

    @staticmethod
    def check(shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that the input ends with logits of AudioSet's classes; else raise ValueError."""
        shape = shapes["embedding"]
        if len(shape) != 1 or shape[0] <= CLASSES:
            raise ValueError(
                f"the feature is {' × '.join(map(str, shape))} a clip, should end with {CLASSES} logits: "
                "take mn_windows"
            )

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of the values of ``mn_windows`` (batch, size)."""
        logits = embedding[:, -CLASSES:].float() - self.offsets
        of_labels = logits.unsqueeze(1).masked_fill(self.members == 0, -torch.inf)
        return self.scale * torch.logsumexp(of_labels, dim=2) + self.shift
