"""The architecture ``audioset_head``: logistic regression on embeddings, with AudioSet's classes as prior."""

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import nn
from torch.nn import functional

from ust.annotations.taxonomy import Taxonomy
from ust.features.efficientat.network import CLASSES
from ust.models.audioset import AudioSet
from ust.models.layers import Architecture, ArchitectureConfig, Shapes, Standardize

PENALTY = 300.0  # L2 penalty of the weights, at a weight decay of 1
PRIOR_PENALTY = 30.0  # of each label's deviations from the mean scale and the mean shift
MAX_ITERATIONS = 200


class AudioSetHead(Architecture):
    """Logistic regression on ``mn_windows`` that starts from the architecture ``audioset``.

    The logit of a label is the logit of `AudioSet` times a scale, plus a shift and a linear function of the
    embeddings. Without labelled clips it is that of `AudioSet`; the linear function is penalised and grows
    with the number of clips. Labels without AudioSet classes have no prior.
    """

    inputs: ClassVar[tuple[str, ...]] = ("embedding",)
    has_epochs: ClassVar[bool] = False

    class Config(ArchitectureConfig):
        """Settings of the architecture."""

        description: ClassVar[str] = (
            "logistic regression of the clip's embedding, with AudioSet's classes as prior"
        )

        classes: dict[str, list[str]] | None = None
        """AudioSet classes of each label; null for those of ust/annotations/audioset_labels.yaml."""

        def complete_for_labels(self, taxonomy: Taxonomy, labels: Sequence[str]) -> Self:
            """Return the settings with the AudioSet classes of each label; none for a label without."""
            known = AudioSet.Config(classes=self.classes).complete_for_labels(taxonomy, labels).classes
            return self.model_copy(update={"classes": {label: known.get(label, []) for label in labels}})

    def __init__(self, config: Config, outputs: int, shapes: Shapes) -> None:
        super().__init__()
        size = shapes["embedding"][0] - CLASSES
        self.audioset = AudioSet(AudioSet.Config(classes=config.classes), outputs, shapes)
        self.standardised = Standardize(size)
        self.linear = nn.Linear(size, outputs)
        self.register_buffer("scale", torch.ones(outputs))
        self.reset()

    @staticmethod
    def check(shapes: Shapes) -> None:
        """Check that the input ends with logits of AudioSet's classes; else raise ValueError."""
        AudioSet.check(shapes)

    def prior(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return the logits of `AudioSet` (batch, outputs); 0 for labels without classes."""
        return torch.where(self.audioset.members.any(dim=1), self.audioset(embedding), 0.0)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, outputs) of the values of ``mn_windows`` (batch, size)."""
        return self.scale * self.prior(embedding) + self.linear(self.standardised(embedding[:, :-CLASSES]))

    @torch.no_grad()
    def reset(self) -> None:
        """Set the weights with which the logits are those of `AudioSet`."""
        self.scale.fill_(1.0)
        self.linear.weight.zero_()
        self.linear.bias.zero_()

    def fit(self, embedding: torch.Tensor, targets: torch.Tensor, *, weight_decay: float, clips: int) -> None:
        """Fit by maximum likelihood with an L2 penalty: a convex problem, without learning rate or epochs.

        The weights are penalised, and the deviations of the labels' scales and shifts from their means. The
        means are free.

        Parameters
        ----------
        embedding : torch.Tensor [shape=(n, size)]
            Values of ``mn_windows``.
        targets : torch.Tensor [shape=(n, outputs)]
            From 0 to 1; NaN where a label is not known.
        weight_decay : float
            The penalty of the weights is 300 times this, that of scales and shifts 30 times.
        clips : int
            Number of clips. If there are more examples, because they have variants, all count less.
        """
        x, known = embedding[:, :-CLASSES], ~targets.isnan()
        self.standardised.fit(x)
        x, prior = self.standardised(x), self.prior(embedding)
        scale, weight, shift = variables = self.scale, self.linear.weight, self.linear.bias
        self.reset()
        scale.requires_grad_()
        optimizer = torch.optim.LBFGS(variables, max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            logits = scale * prior + functional.linear(x, weight, shift)
            losses = functional.binary_cross_entropy_with_logits(
                logits[known], targets[known], reduction="sum"
            )
            deviations = sum((values - values.mean()).square().sum() for values in (scale, shift))
            penalty = PENALTY * weight.square().sum() + PRIOR_PENALTY * deviations
            total = losses * clips / len(x) + weight_decay / 2 * penalty
            total.backward()
            return total

        optimizer.step(loss)
        scale.requires_grad_(False)
