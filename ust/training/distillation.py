"""Knowledge distillation in fine-tuning: the network keeps AudioSet's classes as a second head.

Fine-tuning on few recordings makes a network forget what it knew of others. Here its embeddings must also
give AudioSet's classifier, whose weights are fixed, the class probabilities of the unchanged network (Li &
Hoiem, Learning without Forgetting, TPAMI 2018). Both networks get the same augmented examples (Beyer et al.,
Knowledge distillation: A good teacher is patient and consistent, CVPR 2022).
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ust.features.context import CONTEXT
from ust.features.efficientat.network import CLASSES, MobileNet
from ust.models.context import audio_network
from ust.models.examples import Batch
from ust.training.losses import Loss
from ust.training.trainer import Augment


class DistilledNetwork(nn.Module):
    """A network that is fine-tuned, with AudioSet's classifier as a second head during training.

    Parameters
    ----------
    network : torch.nn.Module
        A `TaggingMobileNet`, or a `NetworkWithContext` of one.
    teacher : MobileNet
        The unchanged network, with its classifier.
    """

    def __init__(self, network: nn.Module, teacher: MobileNet) -> None:
        super().__init__()
        self.network, self.inputs = network, network.inputs
        # In a list, so that the teacher's weights are no parameters and not in the state of this module.
        self._teacher = [teacher.eval().requires_grad_(False)]

    @property
    def teacher(self) -> MobileNet:
        """The unchanged network."""
        return self._teacher[0]

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return label logits (batch, labels); in training, with those of AudioSet's classes appended."""
        if not self.training:
            return self.network(**inputs)
        audio = audio_network(self.network)
        embedding = audio.embed(inputs["log_mel"])
        logits = audio.head(embedding)
        if CONTEXT in inputs:
            logits = logits + self.network.context(inputs[CONTEXT])
        size = self.teacher.classifier["2"].in_features  # the clip's embedding, before those of its windows
        return torch.cat([logits, self.teacher.logits(embedding[:, :size])], dim=1)

    def add_teacher_targets(self, augment: Augment) -> Augment:
        """Return an augmentation whose targets also have the teacher's class probabilities."""

        @torch.no_grad()
        def augment_and_add(
            inputs: Batch, targets: torch.Tensor, rng: np.random.Generator
        ) -> tuple[Batch, torch.Tensor]:
            inputs, targets = augment(inputs, targets, rng)
            probabilities = self.teacher.logits(self.teacher(inputs["log_mel"].float())).sigmoid()
            return inputs, torch.cat([targets, probabilities], dim=1)

        return augment_and_add


def distillation_loss(
    logits: torch.Tensor, targets: torch.Tensor, *, tagging: Loss, weight: float
) -> torch.Tensor:
    """Return the loss of the labels plus a weighted cross-entropy with the teacher's class probabilities.

    Parameters
    ----------
    logits, targets : torch.Tensor [shape=(batch, labels + 527)]
    tagging : callable
        The loss of the labels.
    weight : float
        Weight of the mean binary cross-entropy of the classes.
    """
    classes = functional.binary_cross_entropy_with_logits(logits[:, -CLASSES:], targets[:, -CLASSES:])
    return tagging(logits[:, :-CLASSES], targets[:, :-CLASSES]) + weight * classes
