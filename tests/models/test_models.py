"""Networks, layers and learning-rate schedules, compared with the report and with PyTorch."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import ALONE, CONFIG
from torch import nn

from ust.features.vggish.network import VGGish
from ust.models.checkpoints import count_parameters
from ust.models.cnn import CNN
from ust.models.cnn_mn import CNNEmbedding
from ust.models.cnn_vggish import CNNVGGish
from ust.models.frames import FrameClassifier
from ust.models.layers import TABLE_1, minimum_size, output_size
from ust.training.schedules import CosineSchedule, StagnationSchedule
from ust.util.accelerate import (
    Bilinear,
    PointwiseNorm,
    ReLUDropout,
    StridedConv2d,
    accelerate,
)


def with_fusion(fusion, **changes):
    return CNNVGGish(CONFIG.model_copy(update={"fusion": fusion} | changes), 37)


def test_cnn_has_shapes_and_parameters_of_table_1():
    network = CNNVGGish(CONFIG, 37).eval()
    x = torch.zeros(2, 1, 128, 862)
    wanted = [
        ((8, 128, 862), 8 + 8),
        ((16, 128, 862), 8 * 16 * 9 + 16),
        ((32, 8, 12), 16 * 32 * 16 * 128 + 32),
        ((64, 3, 5), 32 * 64 * 25 + 64),
        ((128, 1, 2), 64 * 128 * 25 + 128),
        ((256, 1, 1), 128 * 256 * 9 + 256),
    ]
    with torch.inference_mode():
        for block, (shape, weights) in zip(network.convolutions, wanted, strict=True):
            x = block(x)
            assert tuple(x.shape) == (2, *shape)
            assert count_parameters(block[0]) == weights
            assert count_parameters(block) == weights + 2 * shape[0]


@pytest.mark.parametrize(
    ("fusion", "fused"),
    [("concat", 1536 * 512 + 512), ("bilinear", 256 * 1280 * 512 + 512), (None, 256 * 512 + 512)],
)
def test_head_has_the_reported_parameters(fusion, fused):
    with torch.device("meta"):
        network = CNN(ALONE, 37) if fusion is None else with_fusion(fusion)
    assert count_parameters(network.fusion) == fused
    assert count_parameters(network.head) == 2 * 512 + 512 * 256 + 256 + 2 * 256 + 256 * 37 + 37


def test_cnn_accepts_another_embedding():
    """The embedding is standardised and concatenated with the 256 values of the convolutions."""
    torch.manual_seed(0)
    network = CNNEmbedding(ALONE, 37, {"logmel": (128, 862), "embedding": (384,)})
    assert count_parameters(network.fusion) == (256 + 384) * 512 + 512
    logmel, embedding = torch.rand(4, 128, 862) * -80, 5 + 3 * torch.randn(4, 384)
    network(logmel, embedding)  # in training: takes a tenth of the batch's mean and variance
    torch.testing.assert_close(network.normalised.running_mean, 0.1 * embedding.mean(0))
    network.eval()
    scaled = (embedding - network.normalised.running_mean) / (network.normalised.running_var + 1e-5).sqrt()
    wanted = network.head(network.fusion(network.spectral(logmel), scaled))
    torch.testing.assert_close(network(logmel.half(), embedding), wanted, atol=0.02, rtol=0.02)
    torch.testing.assert_close(network(logmel, embedding), wanted)
    with pytest.raises(ValueError, match="should be one embedding"):
        CNNEmbedding.check({"logmel": (128, 862), "embedding": (31, 384)})
    with pytest.raises(ValueError, match="should be at least 108"):
        CNNEmbedding.check({"logmel": (64, 862), "embedding": (384,)})


def assert_equal_layers(fast, slow, *inputs):
    """Check outputs, and gradients of inputs and parameters, against a reference with the same weights."""
    slow.load_state_dict(fast.state_dict())
    results = []
    for layer in (fast, slow):
        own = [x.clone().requires_grad_() for x in inputs]
        output = layer(*own)
        (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum().backward()
        # The bias before a batch norm has no effect, and so no gradient but rounding.
        gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in (*own, *layer.parameters())]
        results.append((output, *gradients, *layer.buffers()))
    torch.testing.assert_close(*results)


@settings(deadline=None, max_examples=15)
@given(
    stride=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    times=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    size=st.tuples(st.integers(20, 33), st.integers(20, 37)),
    seed=st.integers(0, 999),
)
def test_strided_convolution_matches_conv2d(stride, times, padding, size, seed):
    torch.manual_seed(seed)
    kernel = (stride[0] * times[0], stride[1] * times[1])
    fast, slow = (kind(3, 5, kernel, stride, padding).double() for kind in (StridedConv2d, nn.Conv2d))
    assert_equal_layers(fast, slow, torch.randn(2, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize("row", range(6))
@pytest.mark.parametrize("training", [True, False])
def test_accelerated_blocks_match_plain_blocks(row, training):
    torch.manual_seed(row)
    block = TABLE_1[row]
    slow = block.module(0.0).double()
    assert [type(layer) for layer in slow][:3] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert (nn.MaxPool2d in map(type, slow)) == (block.pool is not None)
    (fast,) = accelerate(nn.Sequential(copy.deepcopy(slow)))
    assert ReLUDropout in map(type, fast)
    x = torch.randn(2, block.inputs, *((128, 862) if row == 2 else (21, 30)), dtype=torch.float64)
    fast.train()(x * 3 + 1)  # running statistics that are not the first ones
    assert_equal_layers(fast.train(training), slow.train(training), x)


def test_accelerated_network_matches_plain_modules():
    torch.manual_seed(3)
    slow = with_fusion("concat", conv_dropout=0.0, head_dropout=0.0).train()
    fast = accelerate(copy.deepcopy(slow))
    assert fast.state_dict().keys() == slow.state_dict().keys()
    inputs = -80 * torch.rand(3, 128, 862), torch.randint(0, 256, (3, 10, 128))
    torch.testing.assert_close(fast(*inputs), slow(*inputs), rtol=1e-3, atol=1e-3)


def test_bilinear_matches_torch():
    torch.manual_seed(0)
    assert_equal_layers(Bilinear(7, 11, 5), nn.Bilinear(7, 11, 5), torch.randn(3, 7), torch.randn(3, 11))


def test_concat_is_a_linear_layer_on_both_vectors():
    fusion = CNNVGGish(CONFIG, 37).fusion
    first, second = torch.randn(3, 256), torch.randn(3, 1280)
    wanted = first @ fusion.weight[:, :256].T + second @ fusion.weight[:, 256:].T + fusion.bias
    torch.testing.assert_close(fusion(first, second), wanted)


def test_frame_classifier_is_logistic_regression_of_standardised_frames():
    network = FrameClassifier(FrameClassifier.Config(hidden_layers=0, hidden_size=128), 23)
    network.standardised.mean.fill_(100.0)
    network.standardised.scale.fill_(50.0)
    frames = torch.randint(0, 256, (2, 10, 128), dtype=torch.uint8)
    layer = network.layers.output
    wanted = (frames.float() - 100) / 50 @ layer.weight.T + layer.bias
    torch.testing.assert_close(network(frames), wanted)
    assert count_parameters(network) == 128 * 23 + 23
    deep = FrameClassifier(FrameClassifier.Config(hidden_layers=2, hidden_size=64), 23)
    assert count_parameters(deep) == 128 * 64 + 64 + 64 * 64 + 64 + 64 * 23 + 23


def test_accelerate_replaces_expected_layers():
    """The first block, block 3 and bilinear fusion are replaced, but no layer of VGGish."""
    with torch.device("meta"):
        network, vggish = with_fusion("bilinear"), VGGish()
        accelerate(network), accelerate(vggish)
    strided = [type(block[0]) is StridedConv2d for block in network.convolutions]
    assert strided == [False, False, True, False, False, False]
    assert [type(block) is PointwiseNorm for block in network.convolutions] == [True] + [False] * 5
    assert type(network.fusion) is Bilinear
    assert [type(layer) for layer in network.head][2] is nn.Dropout  # what has one dimension draws as PyTorch
    assert {type(layer) for group in vggish.convolutions for layer in group} == {nn.Conv2d}
    odd = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1, groups=128), nn.Conv2d(8, 8, 4, 2, bias=False))
    assert [type(layer) for layer in accelerate(odd)] == [nn.Conv2d] * 2


def test_strided_convolution_needs_a_multiple_of_its_stride():
    with pytest.raises(ValueError, match="whole multiple"):
        StridedConv2d(1, 1, (5, 5), (2, 2), (1, 1))


@pytest.mark.parametrize("p", [0.5, 0.2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_relu_dropout_drops_its_share_and_scales_the_rest(p, memory_format):
    torch.manual_seed(0)
    x = torch.randn(10, 16, 50, 125).contiguous(memory_format=memory_format).requires_grad_()
    layer = ReLUDropout(p)
    y = layer(x)
    dropped = (y == 0)[x > 0].float()
    assert dropped.mean().item() == pytest.approx(p, abs=4e-3)
    close = {"rtol": 2e-3, "atol": 0}  # the share is a multiple of 1/256
    torch.testing.assert_close(y, torch.where(y > 0, x / (1 - p), 0), **close)
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    torch.testing.assert_close(x.grad, torch.where(y > 0, weight / (1 - p), 0), **close)
    places = (layer(torch.ones_like(x)) == 0).float().mean(dim=(0, 2))
    assert places.std() < 0.04  # no position of the random words is special
    torch.testing.assert_close(layer.eval()(x), torch.relu(x))
    torch.testing.assert_close(ReLUDropout(0.0).train()(x), torch.relu(x))


def test_stagnation_schedule_matches_the_report():
    """Rates are computed by hand for a score that never improves again."""
    schedule = StagnationSchedule(
        initial_lr=0.01, patience=10, reduce_factor=0.1, min_lr=1e-6, factor_step=0.1
    )
    rates = []
    for epoch in range(1, 150):
        rates.append(schedule.lr)
        fresh = schedule.step(improved=epoch == 1, scores={})
        assert fresh == (epoch > 1 and (epoch - 1) % 11 == 0)
    # Epoch 1 improves; every eleven stagnant epochs the rate changes: × 0.1 to 1e-5, whose tenth is 1e-6:
    # back to 0.01 with × 0.2, down to 0.01 × 0.2⁵ = 3.2e-6, whose fifth is 6.4e-7: back with × 0.3.
    wanted = [0.01] * 12
    for rate in (1e-3, 1e-4, 1e-5, 0.01, 2e-3, 4e-4, 8e-5, 1.6e-5, 3.2e-6, 0.01, 3e-3, 9e-4, 2.7e-4):
        wanted += [rate] * 11
    np.testing.assert_allclose(rates, wanted[:149], rtol=1e-9)
    assert schedule.restarts == 2


def test_schedule_resets_patience_after_a_new_best():
    schedule = StagnationSchedule(initial_lr=1.0, patience=2, reduce_factor=0.5, min_lr=1e-3, factor_step=0.1)
    changed = [schedule.step(improved=i in (0, 3), scores={}) for i in range(8)]
    assert changed == [False, False, False, False, False, False, True, False]


def test_the_factor_stays_below_1():
    schedule = StagnationSchedule(initial_lr=1.0, patience=0, reduce_factor=0.5, min_lr=0.9, factor_step=0.3)
    for _ in range(5):
        schedule.step(improved=False, scores={})
    assert schedule.reduce_factor == 0.9
    assert schedule.lr == 1.0


@pytest.mark.parametrize(
    ("restart", "epochs"), [("reached", [45, 111, 199]), ("passed", [67, 144, 243])], ids=["text", "code"]
)
def test_rate_returns_after_its_minimum(restart, epochs):
    """Epochs after which the rate returns, by the report's text and by its authors' code."""
    schedule = StagnationSchedule(0.01, 10, 0.1, 1e-6, 0.1, restart)
    found = []
    for epoch in range(1, 250):
        before = schedule.restarts
        schedule.step(improved=epoch == 1, scores={})
        found += [epoch] if schedule.restarts > before else []
    assert found == epochs


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 48, 96, 1000])
@pytest.mark.parametrize("warm_up", [0.0, 0.01, 0.1, 0.25, 0.5, 0.99])
def test_the_highest_rate_is_lr_at_the_end_of_the_warm_up(steps, warm_up):
    """The rate rises linearly to exactly lr, then falls as a cosine towards 0."""
    schedule = CosineSchedule(0.004, warm_up, epochs=1)
    rates = np.array([schedule.step_lr(step, steps) for step in range(steps)])
    by_epochs = CosineSchedule(0.004, warm_up, epochs=steps)
    np.testing.assert_array_equal(rates, [by_epochs.step_lr(step, 1) for step in range(steps)])
    assert schedule.lr == rates[-1] > 0
    assert not schedule.step(improved=False, scores={})
    last = max(round(warm_up * steps), 1) - 1  # of the warm-up
    assert rates.max() == rates[last] == 0.004
    np.testing.assert_allclose(rates[: last + 1], 0.004 * np.arange(1, last + 2) / (last + 1))
    done = np.arange(steps - last) / (steps - last)
    np.testing.assert_allclose(rates[last:], 0.004 * (1 + np.cos(np.pi * done)) / 2)


def test_schedule_state_round_trips():
    first = StagnationSchedule(1.0, 1, 0.5, 0.2, 0.1)
    for _ in range(5):
        first.step(improved=False, scores={})
    second = StagnationSchedule(1.0, 1, 0.5, 0.2, 0.1)
    second.load_state_dict(first.state_dict())
    assert first == second
    assert first != StagnationSchedule(1.0, 1, 0.5, 0.2, 0.1)


@pytest.mark.parametrize(
    ("bands", "frames"), [(128, 862), (256, 862), (128, 1723), (108, 528), (96, 862), (64, 862), (128, 431)]
)
def test_output_sizes_of_the_convolutions(bands, frames):
    """`output_size` equals the sizes of PyTorch's convolutions."""
    blocks = nn.Sequential(*(block.module(0.0) for block in TABLE_1))
    wanted = output_size(bands, frames)
    x = torch.zeros(2, 1, bands, frames)
    if min(wanted) < 1:
        with pytest.raises(RuntimeError):
            blocks(x)
    else:
        assert blocks(x).shape[2:] == wanted


def test_input_below_the_minimum_size_is_refused():
    assert output_size(minimum_size(0), minimum_size(1)) == (1, 1)
    assert output_size(minimum_size(0) - 1, minimum_size(1))[0] == 0
    assert output_size(minimum_size(0), minimum_size(1) - 1)[1] == 0


def test_larger_inputs_are_averaged():
    torch.manual_seed(0)
    network = CNN(ALONE, 37).eval()
    logmel = -80 * torch.rand(2, 256, 1723)
    left = network.convolutions(logmel.unsqueeze(1))
    assert left.shape[2:] == (2, 3)
    wanted = network.head(network.fusion(left.flatten(2).mean(2)))
    torch.testing.assert_close(network(logmel), wanted)


@pytest.mark.parametrize(("fusion", "low", "high"), [("concat", -2.0, 2.0), ("bilinear", 0.0, 255.0)])
def test_embeddings_are_raw_or_whitened(fusion, low, high):
    """Stored bytes become 0 to 255 (raw, as in the authors' code) or -2 to 2 (whitened)."""
    network = with_fusion(fusion).eval()
    seen = []
    network.fusion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    embeddings = torch.tensor([0, 255], dtype=torch.uint8).repeat(2, 10, 64)
    assert network(-80 * torch.rand(2, 128, 862).half(), embeddings).shape == (2, 37)
    torch.testing.assert_close(seen[0], torch.tensor([low, high]).repeat(2, 640))
