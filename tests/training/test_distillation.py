"""Distillation: the loss and the second head.

The tests of fine-tuning and of resuming train with it.
"""

import pytest
import torch
from torch.nn import functional

from ust.features.efficientat.network import CLASSES
from ust.features.efficientat.weights import load_network
from ust.models.context import ContextConfig, ContextNetwork, NetworkWithContext
from ust.models.mobilenet import TaggingMobileNet
from ust.training.distillation import DistilledNetwork, distillation_loss
from ust.training.losses import tagging_loss


def test_loss_is_the_weighted_sum_of_both_heads():
    rng = torch.Generator().manual_seed(0)
    logits, targets = (torch.randn(3, 8 + CLASSES, generator=rng) for _ in range(2))
    targets = targets.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits
    expected = cross_entropy(logits[:, :8], targets[:, :8]) + 2.5 * cross_entropy(
        logits[:, 8:], targets[:, 8:]
    )
    found = distillation_loss(logits, targets, tagging=tagging_loss, weight=2.5)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("windows", [0, 4])
@pytest.mark.parametrize("context", [False, True])
def test_network_has_a_second_head_in_training_only(pretrained, windows, context):
    teacher = load_network(pretrained, 0.4)
    network = TaggingMobileNet(TaggingMobileNet.Config(windows=windows), 8, {"log_mel": (128, 100)})
    network.load_pretrained(teacher)
    network.pretrained.eval()
    inputs = {"log_mel": torch.randn(2, 128, 100)}
    if context:
        network = NetworkWithContext(network, ContextNetwork(ContextConfig(dropout=0.0, place_noise=0.0), 8))
        inputs["context"] = torch.rand(2, 15)
    distilled = DistilledNetwork(network, teacher)
    both, expected = distilled(**inputs), network(**inputs)
    torch.testing.assert_close(both[:, :8], expected)
    # The network is unchanged, so its classes are the teacher's.
    _, targets = distilled.add_teacher_targets(lambda *batch: batch[:2])(inputs, torch.zeros(2, 8), None)
    torch.testing.assert_close(both[:, 8:].sigmoid(), targets[:, 8:], atol=1e-5, rtol=1e-4)
    assert distilled.eval()(**inputs).shape == (2, 8)
    assert not any(name.startswith("_teacher") for name in distilled.state_dict())
    assert all(value.grad is None and not value.requires_grad for value in teacher.parameters())
