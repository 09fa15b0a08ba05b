"""Distillation in fine-tuning: the loss, the second head, and what it preserves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train_finetune import CONFIG, SYSTEM, city, pretrained, work  # noqa: F401
from tiny import changed
from torch.nn import functional

from ust.features.efficientat.network import CLASSES
from ust.features.efficientat.weights import load_network
from ust.models.checkpoints import load_system
from ust.models.context import ContextConfig, ContextNetwork, NetworkWithContext
from ust.models.mobilenet import TaggingMobileNet
from ust.training import train_finetune as finetune
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
def test_network_has_a_second_head_in_training_only(pretrained, windows, context):  # noqa: F811
    teacher = load_network(pretrained, 0.4)
    network = TaggingMobileNet(CONFIG.model_copy(update={"windows": windows}), 8, {"log_mel": (128, 100)})
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
    _, targets = distilled.append_teacher(lambda *batch: batch[:2])(inputs, torch.zeros(2, 8), None)
    torch.testing.assert_close(both[:, 8:].sigmoid(), targets[:, 8:], atol=1e-5, rtol=1e-4)
    assert distilled.eval()(**inputs).shape == (2, 8)
    assert not any(name.startswith("_teacher") for name in distilled.state_dict())
    assert all(value.grad is None and not value.requires_grad for value in teacher.parameters())


def embeddings(network, data):
    """Return the embeddings of the validate clips."""
    with torch.no_grad():
        return network(
            torch.from_numpy(np.stack(data.validate.features["log_mel"][data.validate.rows])).float()
        )


def test_distillation_keeps_the_pretrained_classes(city, work, tmp_path):  # noqa: F811
    """The more weight it has, the closer AudioSet's logits stay to those of the unchanged network."""
    teacher = load_network(work.pretrained, 0.4).eval()
    before = teacher.logits(embeddings(teacher, city)).sigmoid()
    distances = []
    for weight in (0.0, 1000.0):
        out = tmp_path / str(weight)
        finetune.fit_finetuned(
            changed(SYSTEM, {"distillation": weight, "max_epochs": 8}), city, replace(work, out=out)
        )
        network = load_system(out, taxonomy=work.taxonomy).classifier.network
        assert {name.split(".")[0] for name in network.state_dict()} == {"pretrained", "head"}
        after = teacher.logits(embeddings(network.pretrained, city)).sigmoid()
        distances.append((after - before).abs().mean().item())
    assert distances[1] < 0.5 * distances[0]


def test_interrupted_distillation_resumes_to_the_same_weights(city, work, tmp_path):  # noqa: F811
    system = changed(SYSTEM, {"distillation": 1.0, "average": 0.9})
    finetune.fit_finetuned(system, city, work)
    (tmp_path / "states").mkdir()
    interrupted = replace(work, out=tmp_path / "resumed", states=tmp_path / "states")

    def stop(node, epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    interrupted.callbacks.on_epoch = stop
    with pytest.raises(KeyboardInterrupt):
        finetune.fit_finetuned(system, city, interrupted)
    del interrupted.callbacks.on_epoch
    finetune.fit_finetuned(system, city, interrupted)
    first, second = ((place / "weights.safetensors").read_bytes() for place in (work.out, interrupted.out))
    assert first == second
