"""Steps of training against plain modules of PyTorch."""

import numpy as np
import torch
from torch.nn import functional

from benchmarks.inputs import BATCH, Bench
from benchmarks.timing import Pair
from ust.models.cnn_vggish import VGGISH_FEATURES, CNNVGGish
from ust.models.layers import FUSED, TABLE_1
from ust.util.accelerate import accelerate
from ust.util.fast_layers import Bilinear, StridedConv2d


def network(fusion: str) -> CNNVGGish:
    """The report's network, of PyTorch's modules as they come."""
    config = CNNVGGish.Config(fusion=fusion, vggish_scale=None, conv_dropout=0.5, head_dropout=0.2)
    return CNNVGGish(config, 37)


def strided_convolution(bench: Bench) -> Pair:
    """Block 3 of the report's network, forward and backward."""
    block = TABLE_1[2]
    shape = block.inputs, block.outputs, block.kernel, block.stride, block.padding
    fast, plain = StridedConv2d(*shape), torch.nn.Conv2d(*shape)
    x = torch.randn(8, 16, 128, 862, requires_grad=True)
    macs = 33 * 48 * block.inputs * block.outputs * block.kernel[0] * block.kernel[1]
    networks = [network.to(bench.device) for network in (fast, plain)]
    channels_last = x.detach().to(bench.device, memory_format=torch.channels_last).requires_grad_()
    x = x.detach().to(bench.device).requires_grad_()
    return Pair(
        "strided_convolution", "torch.nn.Conv2d",
        bench.synchronised(lambda: networks[0](channels_last).sum().backward()),
        bench.synchronised(lambda: networks[1](x).sum().backward()),
        "clip", per=8, flop=6.0 * macs * 8,
    )  # fmt: skip


def bilinear_step(bench: Bench) -> Pair:
    """The report's fusion, batch 32, forward and backward."""
    sizes = TABLE_1[-1].outputs, VGGISH_FEATURES, FUSED
    fast = Bilinear(*sizes).to(bench.device)
    plain = torch.nn.Bilinear(*sizes).to(bench.device)
    first = torch.randn(BATCH, sizes[0], device=bench.device, requires_grad=True)
    second = torch.randn(BATCH, sizes[1], device=bench.device)
    gradient = torch.randn(BATCH, sizes[2], device=bench.device)

    def step(layer: torch.nn.Module) -> None:
        out = layer(first, second)
        layer.zero_grad()
        out.backward(gradient)

    return Pair(
        "bilinear_step", "torch.nn.Bilinear",
        bench.synchronised(lambda: step(fast)),
        bench.synchronised(lambda: step(plain)),
        "step of 32", flop=6.0 * BATCH * np.prod(sizes), rounds=5,
    )  # fmt: skip


def train_step(bench: Bench, fusion: str = "bilinear", precision: str = "float32") -> Pair:
    """The whole network, its loss and its optimiser, batch 32."""
    ours, plain = accelerate(network(fusion)), network(fusion)
    for each in (ours, plain):
        each.to(bench.device).train()
    generator = torch.Generator().manual_seed(0)
    logmel = (-80 * torch.rand(BATCH, 128, 862, generator=generator)).half()
    vggish = torch.randint(0, 256, (BATCH, 10, 128), generator=generator, dtype=torch.uint8)
    targets = torch.rand(BATCH, 37, generator=generator).round().to(bench.device)
    optimisers = torch.optim.Adam(ours.parameters(), fused=True), torch.optim.Adam(plain.parameters())

    def step(network, optimiser, precision: str) -> None:
        inputs = [part.to(bench.device) for part in (logmel, vggish)]
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(*inputs)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    name = (
        "train_step" if (fusion, precision) == ("bilinear", "float32") else f"train_step_{fusion}_{precision}"
    )
    return Pair(
        name, f"plain PyTorch modules, torch.optim.Adam ({fusion}, float32)",
        bench.synchronised(lambda: step(ours, optimisers[0], precision)),
        bench.synchronised(lambda: step(plain, optimisers[1], "float32")),
        "step of 32", rounds=3, flop=BATCH * network_flop(fusion),
    )  # fmt: skip


def train_step_concat(bench: Bench) -> Pair:
    """The same with the report's other fusion."""
    return train_step(bench, "concat")


def train_step_concat_bfloat16(bench: Bench) -> Pair:
    """The same with mixed precision."""
    return train_step(bench, "concat", "bfloat16")


def network_flop(fusion: str) -> float:
    """Floating-point operations of a clip forward and backward, by the definition of the layers."""
    flop = 0.0
    with torch.device("meta"):
        layers = [layer for block in network("concat").convolutions for layer in block]
    x = torch.zeros(2, 1, 128, 862, device="meta")
    for layer in layers:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            # The first layer needs no gradient of its input.
            flop += (4.0 if layer.in_channels == 1 else 6.0) * x[0, 0].numel() * layer.weight.numel()
    fused = TABLE_1[-1].outputs * VGGISH_FEATURES if fusion == "bilinear" else VGGISH_FEATURES
    return flop + 6.0 * fused * FUSED
