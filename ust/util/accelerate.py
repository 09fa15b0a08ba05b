"""Faster layers in place of PyTorch's own: networks are written plainly, and made fast here.

Every layer of `SWAPS` computes what the one it replaces does, with the same parameters under the same names:
state dicts are exchangeable.
"""

from collections.abc import Callable

import torch
from torch import nn

from ust.util.fast_layers import Bilinear, PointwiseNorm, ReLUDropout, StridedConv2d
from ust.util.winograd import WinogradConv2d

FEWEST_CHANNELS = 128  # below, moving Winograd's tiles about costs more than it saves


def _plain(layer: nn.Conv2d) -> bool:
    """Whether a convolution has nothing that the faster ones lack."""
    return (
        layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and isinstance(layer.padding, tuple)
        and layer.bias is not None
    )


def _strided(layer: nn.Conv2d) -> nn.Module | None:
    shape = layer.kernel_size, layer.stride
    if not _plain(layer) or layer.stride == (1, 1) or any(k % s for k, s in zip(*shape, strict=True)):
        return None
    return StridedConv2d(layer.in_channels, layer.out_channels, *shape, layer.padding)


def _winograd(layer: nn.Conv2d) -> nn.Module | None:
    shape = layer.kernel_size, layer.stride, layer.padding
    wanted = _plain(layer) and shape == ((3, 3), (1, 1), (1, 1)) and layer.in_channels >= FEWEST_CHANNELS
    return WinogradConv2d(layer.in_channels, layer.out_channels) if wanted else None


def _bilinear(layer: nn.Bilinear) -> nn.Module:
    return Bilinear(layer.in1_features, layer.in2_features, layer.out_features)


# What may replace a layer of just this class, the first that fits.
SWAPS: dict[type[nn.Module], tuple[Callable[[nn.Module], nn.Module | None], ...]] = {
    nn.Conv2d: (_strided, _winograd),
    nn.Bilinear: (_bilinear,),
}


def accelerate(network: nn.Module) -> nn.Module:
    """Swap in the faster layers, in place, and channels-last memory.

    Dropout of two-dimensional blocks draws other random numbers than `torch.nn.Dropout`: of one byte each.

    Parameters
    ----------
    network : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The same network. Layers that nothing replaces are left as they are.
    """
    _swap(network)
    return network.to(memory_format=torch.channels_last)


def _swap(parent: nn.Module) -> None:
    for name, child in list(parent.named_children()):
        _swap(child)
        parent.register_module(name, _fused(_faster(child)))


def _faster(layer: nn.Module) -> nn.Module:
    for swap in SWAPS.get(type(layer), ()):
        with torch.device("meta"):  # no first weights: they would take time, and draws of the generator
            other = swap(layer)
        if other is not None:
            for name, parameter in layer.named_parameters():
                other.register_parameter(name, parameter)
            return other.train(layer.training)
    return layer


def _fused(block: nn.Module) -> nn.Module:
    """A convolution's block with what can be done in one pass done in one, each layer at its place."""
    if type(block) is not nn.Sequential or len(block) < 2 or type(block[1]) is not nn.BatchNorm2d:
        return block
    first, norm, *rest = block
    kinds = [type(layer) for layer in rest]
    if kinds == [nn.ReLU, nn.Dropout]:
        rest = [ReLUDropout(rest[-1].p), nn.Identity()]
    elif kinds == [nn.ReLU, nn.MaxPool2d, nn.Dropout]:  # the maximum before the ReLU is the same as after it
        rest = [rest[1], ReLUDropout(rest[-1].p), nn.Identity()]
    pointwise = isinstance(first, nn.Conv2d) and first.in_channels == 1 and first.kernel_size == (1, 1)
    return (PointwiseNorm if pointwise else nn.Sequential)(first, norm, *rest).train(block.training)
