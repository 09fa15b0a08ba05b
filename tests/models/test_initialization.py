"""Initial weights: PyTorch's default distributions, drawn by NumPy, equal on every processor."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from ust.features.efficientat.weights import draw_random_weights
from ust.models.checkpoints import build_initialized, build_network
from ust.models.initialization import initialize_weights, skip_initialization
from ust.models.registry import ARCHITECTURES
from ust.util.seeding import fill_normal, fill_uniform, random_stream

SHAPES = {
    "cnn": {"logmel": (128, 862)},
    "cnn_vggish": {"logmel": (128, 862), "vggish": (10, 128)},
    "cnn_mn": {"logmel": (128, 862), "embedding": (384,)},
    "frames": {"vggish": (10, 128)},
    "head": {"embedding": (384,)},
    "attention": {"frames": (32, 384)},
    "mobilenet": {"log_mel": (128, 1000)},
    "cnn9": {"logmel": (64, 640)},
    "mobilenetv2": {"logmel": (128, 862)},
}
SETTINGS = {"fusion": "concat", "vggish_scale": None, "conv_dropout": 0.5, "head_dropout": 0.2}
SETTINGS |= {"hidden_layers": 1, "hidden_size": 16, "dropout": 0.1, "width": 0.4, "windows": 0}


def config(architecture):
    kind = ARCHITECTURES[architecture].Config
    return kind(**{name: SETTINGS[name] for name in kind.model_fields})


def small():
    """A network with one layer of each type that has weights."""
    return nn.ModuleDict(
        {
            "conv": nn.Conv2d(8, 64, (3, 5)), "depthwise": nn.Conv2d(64, 64, 3, groups=64, bias=False),
            "norm": nn.BatchNorm2d(64), "linear": nn.Linear(40, 300), "bilinear": nn.Bilinear(25, 30, 20),
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fan_in"), [("conv", 8 * 3 * 5), ("depthwise", 9), ("linear", 40), ("bilinear", 25)]
)
def test_weights_are_uniform_within_the_bound_of_pytorch(name, fan_in):
    """Uniform within ±1/√fan_in, from PCG64 seeded by the SHA-256 of the names, drawn in float64."""
    torch.manual_seed(0)
    theirs, ours = small()[name], small()
    initialize_weights(ours, 2019, "a", "b")
    bound = 1 / math.sqrt(fan_in)
    for key, value in ours[name].named_parameters():
        names = hashlib.sha256(f"initialise\0a\0b\0{name}.{key}".encode()).digest()
        entropy = [2019, *(int.from_bytes(names[i : i + 4], "little") for i in range(0, 16, 4))]
        draws = np.random.Generator(np.random.PCG64(entropy)).random(value.shape)
        np.testing.assert_array_equal(value.detach().numpy(), ((2 * draws - 1) * bound).astype(np.float32))
        if value.numel() > 200:
            assert 0.99 * bound < getattr(theirs, key).abs().max() <= bound


def test_batch_norms_start_as_identity():
    network = small()
    with torch.no_grad():
        for tensor in [*network["norm"].parameters(), network["norm"].running_mean]:
            tensor.fill_(7)
    initialize_weights(network, 1)
    for tensor, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
        assert (getattr(network["norm"], tensor) == value).all()


def test_weights_are_independent_of_torch_generator_and_threads():
    made = []
    for seed, threads in ((0, 1), (1, 2)):
        before = torch.get_num_threads()
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        state = torch.get_rng_state()
        made.append(build_initialized("cnn_vggish", config("cnn_vggish"), 5, SHAPES["cnn_vggish"], 3, "a"))
        torch.set_num_threads(before)
        assert torch.equal(torch.get_rng_state(), state)
    first, second = (network.state_dict() for network in made)
    assert all(torch.equal(second[name], value) for name, value in first.items())


@pytest.mark.parametrize("architecture", sorted(SHAPES))
def test_every_weight_of_every_architecture_is_initialized(architecture):
    args = architecture, config(architecture), 5, SHAPES[architecture]
    first, second = build_initialized(*args, 3, "a"), build_initialized(*args, 3, "a")
    plain = build_network(*args).state_dict()
    fixed = {name for name, _ in first.named_buffers()}
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
        assert value.isfinite().all()
        if name in fixed or (value == value.flatten()[0]).all():  # weights and biases of batch norms
            assert torch.equal(value, plain[name]), name
        else:
            assert value.abs().max() <= 1
            assert plain[name].std() > 0
            if value.numel() > 1000:
                assert value.std().item() == pytest.approx(plain[name].std().item(), rel=0.1), name


def test_unknown_layer_type_is_named():
    with pytest.raises(TypeError, match="1: no initialisation is defined for layers of type Embedding"):
        initialize_weights(nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 4)), 1)


def test_skipped_initialization_leaves_the_generator_unchanged():
    state = torch.get_rng_state()
    network = skip_initialization(small)
    assert torch.equal(torch.get_rng_state(), state)
    assert (network["norm"].weight == 1).all()
    small()
    assert not torch.equal(torch.get_rng_state(), state)


def test_long_arrays_are_drawn_in_one_stream():
    for fill, draw in (
        (fill_uniform, lambda rng, n: (2 * rng.random(n) - 1) * 0.3),
        (fill_normal, lambda rng, n: rng.standard_normal(n) * 0.3),
    ):
        values = np.zeros((7, 30_001), np.float32)
        fill(values, 0.3, random_stream(1, "a"))
        wanted = draw(random_stream(1, "a"), values.size).astype(np.float32)
        np.testing.assert_array_equal(values.ravel(), wanted)
    with pytest.raises(ValueError, match="contiguous"):
        fill_uniform(values.T, 0.3, random_stream(1, "a"))


FOUND = """
import hashlib, torch
from ust.features.efficientat.weights import draw_random_weights
from ust.models.checkpoints import build_initialized
from ust.models.head import Head
config = Head.Config(hidden_layers=1, hidden_size=64, dropout=0.5)
head = build_initialized("head", config, 9, {"embedding": (50,)}, 3, "a")
for state in (head.state_dict(), draw_random_weights(1, 0.1)):
    print(hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest())
torch.manual_seed(0)
print(hashlib.sha256(torch.nn.functional.dropout(torch.ones(10_000), 0.3).numpy().tobytes()).hexdigest())
"""


@pytest.mark.whole
def test_weights_are_equal_without_avx2():
    """Dropout masks are equal, too. ATEN_CPU_CAPABILITY disables AVX2 and AVX-512."""
    found = []
    for capability in ("default", "avx2"):
        environment = os.environ | {"ATEN_CPU_CAPABILITY": capability, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", FOUND]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    assert len(found[0]) == 3
    assert found[0] == found[1]


def test_random_mobilenets_are_he_normal():
    state = draw_random_weights(1, 0.1)
    weight = state["features.16.0.weight"]
    assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.05)
    assert weight.mean().item() == pytest.approx(0, abs=0.02)
    assert (state["classifier.5.bias"] == 0).all()
