"""Replace layers of a network by faster equivalents, so that models can use plain `torch.nn` layers.

Each replacement computes the same function as the original layer, with the same names and shapes of
parameters: state dicts are exchangeable.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional


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
    `ReLUDropout` draws one byte per element.

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
    pointwise = (
        isinstance(first, nn.Conv2d)
        and (first.in_channels, first.kernel_size, first.stride) == (1, (1, 1), (1, 1))
        and first.padding == (0, 0)
        and first.bias is not None
    )
    return (PointwiseNorm if pointwise else nn.Sequential)(first, norm, *rest).train(block.training)


class StridedConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` for large kernels with large strides.

    Two steps make it fast on a CPU. Space-to-depth moves blocks of s_h × s_w inputs to channels, so that a
    kernel of size k with stride s becomes one of size k/s with stride 1. The correlation along the width is
    then computed in the Fourier domain, with three real products for each complex one
    (`correlation_matrices`): block 3 of the report's network takes 82 multiplications instead of 8 × 48.
    Parameters have the names and shapes of `torch.nn.Conv2d`, which also runs the forward pass on a GPU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding)
        if any(k % s for k, s in zip(kernel, stride, strict=True)):
            raise ValueError(f"kernel {kernel} should be a whole multiple of stride {stride}")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (batch, in, height, width), fastest in channels-last memory."""
        if x.is_cuda:
            return super().forward(x)
        (kh, kw), (sh, sw), (ph, pw) = self.kernel_size, self.stride, self.padding
        b, c, h, w = x.shape
        out_h, out_w = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
        taps_h, taps_w, depth = kh // sh, kw // sw, sh * sw * c
        # Keep the blocks under the last kernel; no output depends on the input beyond them.
        rows, columns = out_h - 1 + taps_h, out_w - 1 + taps_w
        columns += columns % 2 == 0  # `correlation_matrices` needs an odd length
        x = functional.pad(x.permute(0, 2, 3, 1), (0, 0, pw, columns * sw - w - pw, ph, rows * sh - h - ph))
        x = x.contiguous()  # copies only if there was no padding
        blocks = x.view(b, rows, sh, columns, sw * c).transpose(2, 3).reshape(b * rows, columns, depth)
        kernel = self.weight.view(-1, c, taps_h, sh, taps_w, sw).permute(4, 3, 5, 1, 2, 0)

        forward, of_kernel, inverse = (
            torch.from_numpy(matrix).to(x) for matrix in correlation_matrices(columns, taps_w, out_w)
        )
        spectrum = (forward @ blocks).transpose(0, 1)  # (products, batch × rows, depth)
        kernel_spectrum = (of_kernel @ kernel.reshape(taps_w, -1)).view(-1, depth, taps_h * self.out_channels)
        product = torch.bmm(spectrum, kernel_spectrum)
        product = product.view(len(product), b, rows, taps_h, self.out_channels)
        # Along the height, the taps are few: sum them directly.
        product = sum(product[:, :, i : i + out_h, i] for i in range(taps_h))
        out = inverse @ product.reshape(len(product), -1)
        out = out.view(out_w, b, out_h, self.out_channels).permute(1, 2, 0, 3).contiguous()
        return (out + self.bias).permute(0, 3, 1, 2)


@cache
def correlation_matrices(length: int, taps: int, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return matrices F, K, I such that I ((F x) ∘ (K w)) is the correlation of x with w.

    This is the discrete Fourier transform in real arithmetic. The product of a bin a - ib of x and the
    conjugate bin c + id of w takes three real products, (a - b) c, a (d - c) and b (c + d). Its real part is
    the sum of the first and the third, its imaginary part the sum of the first and the second.

    Returns
    -------
    forward : numpy.ndarray [shape=(products, length)]
    kernel : numpy.ndarray [shape=(products, taps)]
    inverse : numpy.ndarray [shape=(outputs, products)]
    """

    def waves(size: int) -> tuple[np.ndarray, np.ndarray]:
        angle = 2 * np.pi / length * np.outer(np.arange(1, (length + 1) // 2), np.arange(size))
        return np.cos(angle), np.sin(angle)

    def products(*rows: np.ndarray) -> np.ndarray:
        size = rows[0].shape[1]
        return np.concatenate([np.ones((1, size)), np.stack(rows, axis=1).reshape(-1, size)])

    cos, sin = waves(length)
    forward = products(cos - sin, cos, sin)
    cos, sin = waves(taps)
    kernel = products(cos, sin - cos, cos + sin)
    cos, sin = waves(outputs)
    inverse = products(2 * (cos - sin), -2 * sin, 2 * cos) / length
    return forward, kernel, np.ascontiguousarray(inverse.T)


class PointwiseNorm(nn.Sequential):
    """A block that begins with a 1×1 convolution of one channel and a batch norm, computed in one pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, height, width) to (batch, out, …)."""
        convolution, norm, *rest = self
        x = pointwise_batch_norm(convolution, norm, x)
        for layer in rest:
            x = layer(x)
        return x


def pointwise_batch_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """Compute ``norm(convolution(x))`` for a 1×1 convolution of one channel, in one pass instead of three.

    The mean and variance of w x + b follow from those of x, so both layers together are a scale and a shift.
    """
    weight = convolution.weight.flatten()
    if norm.training:
        variance, mean = torch.var_mean(x, correction=0)
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(weight * mean + convolution.bias, norm.momentum)
            unbiased = variance * (x.numel() / (x.numel() - 1))
            norm.running_var.lerp_(weight.square() * unbiased, norm.momentum)
        deviation = torch.sqrt(weight.square() * variance + norm.eps)
        scale = norm.weight * weight / deviation
        shift = norm.bias - scale * mean
    else:
        deviation = torch.sqrt(norm.running_var + norm.eps)
        scale = norm.weight * weight / deviation
        shift = norm.bias + (convolution.bias - norm.running_mean) * norm.weight / deviation
    out = functional.conv2d(x, scale.view_as(convolution.weight), shift)
    return out.contiguous(memory_format=torch.channels_last)


class Bilinear(nn.Bilinear):
    """`torch.nn.Bilinear` as one matrix product and a sum; its backward pass is twenty times as fast.

    Parameters have the names and shapes of `torch.nn.Bilinear`.
    """

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Fuse (batch, in1) and (batch, in2) to (batch, out)."""
        product = functional.linear(second, self.weight.flatten(0, 1))
        product = product.view(len(first), self.out_features, self.in1_features)
        return torch.einsum("boi,bi->bo", product, first.to(product.dtype)) + self.bias


class _ReLUDropout(torch.autograd.Function):
    """ReLU and dropout; an element is kept if its random byte is below `keep`."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, keep: int) -> torch.Tensor:
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        # as_strided gives the mask the memory layout of x, contiguous or channels-last.
        mask = (words.view(torch.uint8)[: x.numel()] < keep).as_strided(x.shape, x.stride())
        ctx.scale = 256 / keep
        out = torch.relu(x).mul_(mask).mul_(ctx.scale)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        # Outputs are positive exactly where the gradient passes both the ReLU and the dropout.
        (out,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, out, 0).mul_(ctx.scale), None


class ReLUDropout(nn.Module):
    """ReLU followed by dropout, with one random byte per element.

    On a CPU the dropout costs a tenth of `torch.nn.Dropout`.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.keep = max(1, round(256 * (1 - p)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the ReLU and, in training mode, the dropout."""
        if not self.training or self.keep == 256:
            return torch.relu(x)
        dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        return _ReLUDropout.apply(x if dense else x.contiguous(), self.keep)

    def extra_repr(self) -> str:
        """Return the parameters for `repr`."""
        return f"p={self.p}"
