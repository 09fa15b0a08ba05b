"""First weights of networks, drawn with NumPy: the same on every processor, whatever PyTorch does there.

PyTorch's own draws depend on the processor: its normal ones, and uniform ones to other bounds than -1 and 1,
differ between CPUs with and without AVX2. NumPy's PCG64 is integer arithmetic.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ust.util.seeding import fill_uniform, random_stream

Network = TypeVar("Network", bound=nn.Module)


def initialize_weights(module: nn.Module, seed: int, *names: str) -> None:
    """Draw the first weights of a network, in place, from the distributions that PyTorch takes by default.

    Convolutions and linear layers: weight and bias uniform within ±1/√fan_in. Bilinear layers: both within
    ±1/√in1_features. Batch norms: weight 1, bias 0, statistics of nothing. Each parameter has a stream of its
    own, named by the parameter: a layer more or less changes no other layer's weights.

    Parameters
    ----------
    module : torch.nn.Module
        On a CPU, in float32. Buffers are left as they are, except those of batch norms.
    seed : int
    *names : str
        What tells this network from others of the same seed, such as the system's name.

    Raises
    ------
    TypeError
        If a layer of another type has parameters: its distribution has to be added here.

    Examples
    --------
    >>> layer = nn.Linear(4, 2)
    >>> initialize_weights(layer, 2019, "example")
    >>> bool((layer.weight.abs() <= 0.5).all())
    True
    """
    for path, layer in module.named_modules():
        parameters = dict(layer.named_parameters(recurse=False))
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_parameters()
            continue
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(layer.weight[0].numel())
        elif isinstance(layer, nn.Bilinear):
            bound = 1 / math.sqrt(layer.in1_features)
        elif parameters:
            raise TypeError(f"{path}: no first weights are known for a layer of type {type(layer).__name__}")
        for name, parameter in parameters.items():
            draws = random_stream(seed, "initialise", *names, f"{path}.{name}" if path else name)
            fill_uniform(parameter.detach().numpy(), bound, draws)  # the same memory


class _SkipRandomFills(TorchFunctionMode):
    """Leaves tensors as they are where PyTorch would fill them with random numbers."""

    SKIPPED = (torch.Tensor.uniform_, torch.Tensor.normal_, nn.init.kaiming_uniform_, nn.init.uniform_)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in self.SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def skip_initialization(build: Callable[[], Network]) -> Network:
    """A network whose random first weights are not drawn: for whoever sets all of them.

    The bilinear layer of the report's network has 168 million, whose draws take a second.
    """
    with _SkipRandomFills():
        return build()
