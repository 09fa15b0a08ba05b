"""Convolution with 3×3 kernels by Winograd's algorithm, for inference on a CPU."""

import torch
from torch import nn
from torch.nn import functional


class WinogradConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` of 3×3 kernels, stride 1 and padding 1, by Winograd's F(4×4, 3×3).

    A 4×4 tile of the output takes 36 multiplications per channel instead of 144. Only inference in float32 on
    a CPU uses the algorithm; other calls go to `torch.nn.Conv2d`. It pays from about 128 channels on: with
    fewer, rearranging the tiles costs more than it saves.

    References
    ----------
    Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016.
    """

    TILE, REACH = 4, 6  # side of an output tile, and of the input tile that it depends on
    INPUT = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
             (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))  # fmt: skip
    KERNEL = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
              (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip
    OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self._kernel: tuple[int, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (batch, in, height, width), fastest in channels-last memory."""
        inference = torch.is_inference_mode_enabled() and not torch.is_autocast_enabled(x.device.type)
        if x.is_cuda or not inference:
            return super().forward(x)
        b, c, h, w = x.shape
        rows, columns = -(-h // self.TILE), -(-w // self.TILE)
        below, right = rows * self.TILE - h + 1, columns * self.TILE - w + 1
        x = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, right, 1, below)).contiguous()
        image, row, column, channel = x.stride()
        tiles = x.as_strided(
            (self.REACH, self.REACH, b, rows, columns, c),
            (row, column, image, self.TILE * row, self.TILE * column, channel),
        )
        spectrum = _both_sides(self.INPUT, x) @ tiles.reshape(self.REACH**2, -1)
        product = torch.bmm(spectrum.view(self.REACH**2, -1, c), self._transformed_kernel())
        out = (_both_sides(self.OUTPUT, x) @ product.flatten(1)).view(
            self.TILE, self.TILE, b, rows, columns, self.out_channels
        )
        out = out.permute(2, 3, 0, 4, 1, 5).reshape(b, rows * self.TILE, columns * self.TILE, -1)
        return (out[:, :h, :w] + self.bias).permute(0, 3, 1, 2)

    def _transformed_kernel(self) -> torch.Tensor:
        """Return the transformed kernel, cached until the weights change."""
        if self._kernel is None or self._kernel[0] != self.weight._version:
            taps = self.weight.permute(2, 3, 1, 0).reshape(9, -1)
            kernel = (_both_sides(self.KERNEL, taps) @ taps).view(-1, self.in_channels, self.out_channels)
            self._kernel = self.weight._version, kernel
        return self._kernel[1]


def _both_sides(matrix: tuple[tuple[float, ...], ...], like: torch.Tensor) -> torch.Tensor:
    """Return the matrix that applies `matrix` along both the height and the width of a flattened tile."""
    side = torch.tensor(matrix, dtype=like.dtype)
    return torch.kron(side, side)
