"""The report's Table 1: the network's convolutions as numbers, and the inputs they can take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A row of Table 1: convolution, batch norm, ReLU, max pool where given, dropout."""

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    pool: tuple[int, int] | None = None


TABLE_1 = (
    Block(1, 8, (1, 1), (1, 1), (0, 0)),
    Block(8, 16, (3, 3), (1, 1), (1, 1)),
    Block(16, 32, (16, 128), (4, 16), (8, 16), (4, 4)),
    Block(32, 64, (5, 5), (2, 2), (1, 1)),
    Block(64, 128, (5, 5), (2, 2), (1, 1)),
    Block(128, 256, (3, 3), (2, 2), (1, 1)),
)


def output_size(bands: int, frames: int) -> tuple[int, int]:
    """What the blocks leave of a log-mel; less than 1 in either place where it is too small for them.

    Examples
    --------
    >>> output_size(128, 862)
    (1, 1)
    >>> output_size(64, 862)
    (0, 1)
    """
    return _left(bands, 0), _left(frames, 1)


def fewest(axis: int) -> int:
    """The fewest bands (axis 0) or frames (axis 1) that leave anything.

    Examples
    --------
    >>> fewest(0), fewest(1)
    (108, 528)
    """
    return next(size for size in range(1, 10_000) if _left(size, axis) > 0)


def _left(size: int, axis: int) -> int:
    for block in TABLE_1:
        padded = size + 2 * block.padding[axis]
        if padded < block.kernel[axis]:
            return 0
        size = (padded - block.kernel[axis]) // block.stride[axis] + 1
        size //= block.pool[axis] if block.pool else 1
    return size
