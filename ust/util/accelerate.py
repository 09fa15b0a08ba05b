"""Replace layers of a network by faster equivalents, so that models can use plain `torch.nn` layers.

Each replacement computes the same function as the original layer, with the same parameter names: state dicts
are exchangeable.
"""

from collections.abc import Callable

import torch
from torch import nn

from ust.util.fast_layers import Bilinear, PointwiseNorm, ReLUDropout, StridedConv2d


def _strided_conv(layer: nn.Conv2d) -> nn.Module | None:
    """Return a `StridedConv2d` without weights, or None if it does not fit."""
    shape = layer.kernel_size, layer.stride
    plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    supported = plain and isinstance(layer.padding, tuple) and layer.bias is not None
    if not supported or layer.stride == (1, 1) or any(k % s for k, s in zip(*shape, strict=True)):
        return None
    return StridedConv2d(layer.in_channels, layer.out_channels, *shape, layer.padding)


def _bilinear(layer: nn.Bilinear) -> nn.Module:
    return Bilinear(layer.in1_features, layer.in2_features, layer.out_features)


# By exact class of a layer, the function that builds its replacement, or returns None to keep it.
REPLACEMENTS: dict[type[nn.Module], Callable[[nn.Module], nn.Module | None]] = {
    nn.Conv2d: _strided_conv,
    nn.Bilinear: _bilinear,
}


def accelerate(network: nn.Module) -> nn.Module:
    """Replace the layers of a network by faster ones, in place, and use channels-last memory.

    Outputs agree with those of the original network up to rounding. The exception is dropout after a
    two-dimensional convolution: its random numbers differ from those of `torch.nn.Dropout`, because
    `ust.util.fast_layers.ReLUDropout` draws one byte per element.

    Parameters
    ----------
    network : torch.nn.Module
        Layers without a faster equivalent are left unchanged.

    Returns
    -------
    torch.nn.Module
        The same network.

    Examples
    --------
    >>> network = accelerate(nn.Sequential(nn.Conv2d(1, 4, (4, 8), (4, 8)), nn.ReLU()))
    >>> type(network[0]).__name__
    'StridedConv2d'
    """
    _replace_layers(network)
    return network.to(memory_format=torch.channels_last)


def _replace_layers(parent: nn.Module) -> None:
    """Replace all layers below a module, depth first."""
    for name, child in list(parent.named_children()):
        _replace_layers(child)
        parent.register_module(name, _fuse_block(_replace_layer(child)))


def _replace_layer(layer: nn.Module) -> nn.Module:
    """Return the replacement of a layer with the layer's own parameters, or the layer itself."""
    make_layer = REPLACEMENTS.get(type(layer))
    if make_layer is None:
        return layer
    with torch.device("meta"):  # skips the initialization, which would advance the random generator
        faster = make_layer(layer)
    if faster is None:
        return layer
    for name, parameter in layer.named_parameters():
        faster.register_parameter(name, parameter)
    return faster.train(layer.training)


def _fuse_block(block: nn.Module) -> nn.Module:
    """Fuse the layers of a convolution block where possible, without changing the parameters' names."""
    if type(block) is not nn.Sequential or len(block) < 2 or type(block[1]) is not nn.BatchNorm2d:
        return block
    first, norm, *rest = block
    kinds = [type(layer) for layer in rest]
    if kinds == [nn.ReLU, nn.Dropout]:
        rest = [ReLUDropout(rest[-1].p), nn.Identity()]
    elif kinds == [nn.ReLU, nn.MaxPool2d, nn.Dropout]:  # max pooling and ReLU commute
        rest = [rest[1], ReLUDropout(rest[-1].p), nn.Identity()]
    pointwise = isinstance(first, nn.Conv2d) and first.in_channels == 1 and first.kernel_size == (1, 1)
    return (PointwiseNorm if pointwise else nn.Sequential)(first, norm, *rest).train(block.training)
