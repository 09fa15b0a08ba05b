"""Weight initialisation with NumPy's random numbers, which are the same on every processor.

PyTorch's draws depend on the processor: normal ones, and uniform ones with bounds other than -1 and 1, differ
between CPUs with and without AVX2. NumPy's PCG64 is integer arithmetic.
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
    """Initialise a network in place, from the distributions that PyTorch uses by default.

    Convolutions and linear layers: weight and bias uniform within ±1/√fan_in. Bilinear layers: both within
    ±1/√in1_features. Batch norms: weight 1, bias 0, initial statistics. Each parameter has its own random
    stream, named after it, so that adding a layer changes no other layer's weights.

    Parameters
    ----------
    module : torch.nn.Module
        On a CPU, in float32. Buffers are unchanged, except those of batch norms.
    seed : int
    *names : str
        Names that distinguish this network from others with the same seed, such as the system's name.

    Raises
    ------
    TypeError
        If a layer of another type has parameters; its distribution has to be added here.

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
            raise TypeError(f"{path}: no initialisation is defined for layers of type {type(layer).__name__}")
        for name, parameter in parameters.items():
            draws = random_stream(seed, "initialise", *names, f"{path}.{name}" if path else name)
            fill_uniform(parameter.detach().numpy(), bound, draws)  # shares the parameter's memory


class _SkipRandomFills(TorchFunctionMode):
    """Skip PyTorch's random initialisation of tensors."""

    SKIPPED = (torch.Tensor.uniform_, torch.Tensor.normal_, nn.init.kaiming_uniform_, nn.init.uniform_)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in self.SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def skip_initialization(build: Callable[[], Network]) -> Network:
    """Build a network without drawing its first weights, for callers that set all of them.

    Drawing the 168 million weights of the report's bilinear layer takes a second.
    """
    with _SkipRandomFills():
        return build()
