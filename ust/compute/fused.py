"""Layers that do in one pass over memory what PyTorch's own do in several."""

import torch
from torch import nn
from torch.nn import functional


class PointwiseNorm(nn.Sequential):
    """A block that begins with a 1×1 convolution of one channel and a batch norm, both done in one pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take (batch, 1, height, width) to (batch, out, …)."""
        convolution, norm, *rest = self
        x = pointwise_batch_norm(convolution, norm, x)
        for layer in rest:
            x = layer(x)
        return x


def pointwise_batch_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """``norm(convolution(x))`` for a 1×1 convolution of one channel, in one pass instead of three.

    The mean and variance of w x + b follow from those of x, so both layers together are one scale and shift.

    Parameters
    ----------
    convolution : torch.nn.Conv2d
    norm : torch.nn.BatchNorm2d
        Its running statistics are updated while it trains.
    x : torch.Tensor [shape=(batch, 1, height, width)]
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
    """`torch.nn.Bilinear` as one matrix product and a sum; its own backward takes twenty times as long.

    Parameters are those of `torch.nn.Bilinear`: state dicts are exchangeable.
    """

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Fuse (batch, in1) and (batch, in2) to (batch, out)."""
        product = functional.linear(second, self.weight.flatten(0, 1))
        product = product.view(len(first), self.out_features, self.in1_features)
        return torch.einsum("boi,bi->bo", product, first.to(product.dtype)) + self.bias


class _ReLUDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, keep: int) -> torch.Tensor:
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        # as_strided: in the order of x's memory, whichever that is.
        kept = (words.view(torch.uint8)[: x.numel()] < keep).as_strided(x.shape, x.stride())
        ctx.scale = 256 / keep
        out = torch.relu(x).mul_(kept).mul_(ctx.scale)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        # An output is above 0 exactly where neither the ReLU nor the dropout stopped it.
        (out,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, out, 0).mul_(ctx.scale), None


class ReLUDropout(nn.Module):
    """ReLU, then dropout by one random byte an element: a tenth of the cost of `torch.nn.Dropout` on a CPU.

    Parameters
    ----------
    p : float
        Share of elements set to 0, in [0, 1), rounded to a 256th (0.5 is exact); the others are scaled by the
        inverse of the rounded share that is kept, so the expectation is exact.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.keep = max(1, round(256 * (1 - p)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rectify; while training, drop elements, too."""
        if not self.training or self.keep == 256:
            return torch.relu(x)
        dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        return _ReLUDropout.apply(x if dense else x.contiguous(), self.keep)

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"p={self.p}"
