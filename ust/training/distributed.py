"""Training in several processes: torchrun, process groups, and batch norm over processes.

Each process computes a share of every batch. The batch size does not depend on the number of processes.
Gradients equal those of a single process, up to rounding and the random numbers of dropout.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ust.util.errors import UserError


def is_launched() -> bool:
    """Return whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch_rank() -> int:
    """Return the rank set by torchrun, before the process group is initialised; 0 without torchrun."""
    return int(os.environ["RANK"]) if is_launched() else 0


def rank() -> int:
    """Return the rank of this process; 0 without a process group."""
    return torch.distributed.get_rank() if _is_initialized() else 0


def world_size() -> int:
    """Return the number of processes; 1 without a process group."""
    return torch.distributed.get_world_size() if _is_initialized() else 1


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run ``python *arguments`` in several processes, as torchrun does, and wait for them."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id="ust", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except ChildFailedError as error:
        # A killed process makes the others fail, and their failures may be reported first.
        first, failure = min(
            error.failures.items(), key=lambda item: (item[1].exitcode >= 0, item[1].timestamp)
        )
        reason = f"ended with exit code {failure.exitcode}"
        if failure.exitcode < 0:
            reason = f"was ended by {signal.Signals(-failure.exitcode).name}"
        raise UserError(
            f"process {first} of {processes} {reason}, and so the others were ended; "
            "run the same command again to resume after the last finished epoch"
        ) from None


def init_process_group(processes: int, device: torch.device) -> None:
    """Initialise the process group."""
    started = int(os.environ["WORLD_SIZE"])
    if started != processes:
        raise UserError(f"torchrun started {started} processes, compute.processes is {processes}")
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Sums and random states are tensors of the CPU, which NCCL does not take.
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")


@contextmanager
def report_lost_processes() -> Iterator[None]:
    """Turn the errors that follow the end of another process into a UserError."""
    try:
        yield
    except RuntimeError as error:
        if _is_initialized() and (isinstance(error, torch.distributed.DistError) or "gloo" in str(error)):
            raise UserError(f"process {rank()} of {world_size()} has lost the others") from error
        raise


def broadcast(value: Any) -> Any:
    """Return the first process's value in all processes."""
    if not _is_initialized():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def all_reduce_sum(value: float) -> float:
    """Sum a number over all processes."""
    if not _is_initialized():
        return value
    total = torch.tensor(value, dtype=torch.float64)
    torch.distributed.all_reduce(total)
    return total.item()


def all_gather(value: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensor of each process, in the order of ranks."""
    if not _is_initialized():
        return [value]
    values = [torch.empty_like(value) for _ in range(world_size())]
    torch.distributed.all_gather(values, value)
    return values


class _AllReduceSum(torch.autograd.Function):
    """Sum a tensor over all processes, with gradient."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


class _Synced:
    """Mixin of batch norms over the batch of all processes; PyTorch's SyncBatchNorm works on GPUs only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (batch, channels, …), in training by the statistics of the batch of all processes."""
        if not self.training:
            return super().forward(x)
        axes = (0, *range(2, x.ndim))
        shape = (-1, *[1] * (x.ndim - 2))
        size = _AllReduceSum.apply(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = _AllReduceSum.apply(x.float().sum(axes)) / size
        variance = _AllReduceSum.apply((x.float() - mean.view(shape)).square().sum(axes)) / size
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * size / (size - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)


class SyncedBatchNorm1d(_Synced, nn.BatchNorm1d):
    """Batch norm of (batch, channels) over all processes."""


class SyncedBatchNorm2d(_Synced, nn.BatchNorm2d):
    """Batch norm of (batch, channels, height, width) over all processes."""


SYNCED_CLASS = {nn.BatchNorm1d: SyncedBatchNorm1d, nn.BatchNorm2d: SyncedBatchNorm2d}


def convert_sync_batchnorm(network: nn.Module) -> nn.Module:
    """Replace batch norms by ones over all processes, in place; the state dict stays the same."""
    for module in network.modules():
        if type(module) in SYNCED_CLASS:
            module.__class__ = SYNCED_CLASS[type(module)]
    return network


def _is_initialized() -> bool:
    """Return whether there is a process group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
