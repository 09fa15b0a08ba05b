"""The architecture ``audioset``: labels as groups of AudioSet's classes, without training."""

from collections.abc import Sequence
from typing import ClassVar, Self

import torch

from ust.annotations.audioset import (
    check_classes,
    class_indices,
    map_labels_to_classes,
    typical_logits,
)
from ust.annotations.taxonomy import Taxonomy
from ust.features.efficientat.network import CLASSES
from ust.models.layers import Architecture, ArchitectureConfig, Shapes
from ust.util.config import NonNegativeFloat, PositiveFloat


class AudioSet(Architecture):
    """Logits of labels from the AudioSet logits of a clip's windows, the last 527 values of ``mn_windows``.

    The odds of a label are the sum of the odds of its classes. The network predicts some labels, such as
    music, more readily than others; a share of each label's typical logit is subtracted to correct for that.
    """

    inputs: ClassVar[tuple[str, ...]] = ("embedding",)
    own_trainer: ClassVar[bool] = True

    class Config(ArchitectureConfig):
        """Settings of the architecture."""

        description: ClassVar[str] = "groups of AudioSet's classes, without training"

        classes: dict[str, list[str]] | None = None
        """AudioSet classes of each label; null for those of ust/annotations/audioset_labels.yaml."""
        typical: NonNegativeFloat = 0.5
        """Share of a label's typical logit that is subtracted."""
        scale: PositiveFloat = 0.81
        """Scale of the logits of all labels, for calibration."""
        shift: float = -0.86
        """Shift of the logits of all labels, for calibration."""

        def complete_for_labels(self, taxonomy: Taxonomy, labels: Sequence[str]) -> Self:
            """Return the settings with the AudioSet classes of each label that has any."""
            given = map_labels_to_classes(taxonomy) if self.classes is None else self.classes
            if unknown := [label for label in given if label not in taxonomy.labels]:
                raise ValueError(
                    f"classes.{unknown[0]}: there is no such label, only {', '.join(taxonomy.labels)}"
                )
            classes = {label: list(given[label]) for label in labels if given.get(label)}
            check_classes(classes)
            return self.model_copy(update={"classes": classes})

    def __init__(self, config: Config, outputs: int, shapes: Shapes) -> None:
        super().__init__()
        check_classes(config.classes or {})
        known = class_indices()
        members = torch.zeros(outputs, CLASSES)
        for row, names in zip(members, config.classes.values(), strict=True):
            row[[known[name] for name in names]] = 1
        self.register_buffer("members", members)
        typical = torch.tensor(typical_logits())
        self.register_buffer("typical", config.typical * self._sum_odds(typical.unsqueeze(0))[0])
        self.scale, self.shift = config.scale, config.shift

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Check that the input ends with logits of AudioSet's classes; else raise ValueError."""
        shape = shapes["embedding"]
        if len(shape) != 1 or shape[0] <= CLASSES:
            raise ValueError(
                f"the feature is {' × '.join(map(str, shape))} a clip, should end with {CLASSES} logits: "
                "take mn_windows"
            )

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of the values of ``mn_windows`` (batch, size)."""
        logits = self._sum_odds(embedding[:, -CLASSES:].float())
        return self.scale * (logits - self.typical) + self.shift

    def _sum_odds(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits of labels (batch, outputs) whose odds are the sums of those of their classes."""
        of_labels = logits.unsqueeze(1).masked_fill(self.members == 0, -torch.inf)
        return torch.logsumexp(of_labels, dim=2)
