"""The training loop of one epoch, used by all schedules and stopping rules."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ust.models.examples import Examples, batch_bounds, predict
from ust.models.systems import CalibratedClassifier
from ust.training import augmentation, distributed
from ust.training.losses import known_cross_entropy
from ust.training.state import TrainingState
from ust.util.config import Count, Positive, Precision, Section, Seed, Share, Weight
from ust.util.device import seed_torch
from ust.util.errors import UserError
from ust.util.progress import Progress, silent
from ust.util.seeding import random_stream

OPTIMIZERS = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}


class NetworkSettings(Section):
    """Settings shared by the recipes that train with `Trainer`."""

    seed: Seed
    lr: Positive
    batch_size: Annotated[int, Field(ge=2)]
    max_epochs: Count
    optimizer: Literal[tuple(OPTIMIZERS)]
    pos_weight_power: Share
    precision: Precision
    cache_gib: Weight


@dataclass(frozen=True)
class Task:
    """A network to train in place, with its examples.

    Attributes
    ----------
    network : torch.nn.Module
        On `device`; maps inputs by name to logits of the targets.
    train, validate : Examples
        With targets of the network's outputs.
    device : torch.device
    name : str
        Names the random streams of shuffling and dropout, to distinguish the networks of a system.
    on_epoch : callable
        Called after each epoch with its result, to save the best network. It is not called for epochs before
        a resumed training.
    state : TrainingState
        The state to resume from, updated after each epoch.
    progress : Progress
    """

    network: nn.Module
    train: Examples
    validate: Examples
    device: torch.device
    name: str
    on_epoch: Callable[[Any], None]
    state: TrainingState = field(default_factory=TrainingState)
    progress: Progress = silent


def positive_weights(targets: np.ndarray, power: float) -> np.ndarray:
    """Return (negatives / positives) ** power for each label; 1 for a label that lacks either.

    Parameters
    ----------
    targets : numpy.ndarray [shape=(n, labels)]
        From 0 to 1; a soft label counts as that share of a positive.
    """
    positive = targets.sum(axis=0, dtype=np.float64)
    negative = len(targets) - positive
    has_both = (positive > 0) & (negative > 0)
    ratio = np.divide(negative, positive, out=np.ones_like(positive), where=has_both)
    return ratio**power


class Trainer:
    """Trains a network epoch by epoch, with its optimizer and random streams.

    Parameters
    ----------
    task : Task
    recipe : NetworkSettings
    """

    def __init__(self, task: Task, recipe: NetworkSettings) -> None:
        self.network, self.examples, self.recipe = task.network, task.train, recipe
        self.device, self.name, self.progress = task.device, task.name, task.progress
        self._shuffle = random_stream(recipe.seed, "shuffle", task.name)
        # Each process has its own random stream for dropout.
        seed_torch(
            recipe.seed, "dropout", task.name, *([str(distributed.rank())] if distributed.rank() else [])
        )
        self._min_batch = self._check_batch_size()
        self._parallel = (
            DistributedDataParallel(self.network) if distributed.world_size() > 1 else self.network
        )
        weights = positive_weights(task.train.targets, recipe.pos_weight_power)
        self._pos_weight = torch.from_numpy(weights).float().to(task.device)
        self.restart(recipe.lr)

    def restart(self, lr: float) -> None:
        """Reset the optimizer with a learning rate."""
        options = {"fused": True} if self.recipe.optimizer == "adam" else {}
        self.optimizer = OPTIMIZERS[self.recipe.optimizer](self.network.parameters(), lr=lr, **options)

    def epoch(self, number: int, rate: Callable[[int, int], float] | None = None) -> float:
        """Train one epoch; return the mean loss.

        Parameters
        ----------
        number : int
            From 1.
        rate : callable, optional
            Returns the learning rate, given the step (from 0) and the number of steps of the whole training.
            By default the rate does not change.

        Raises
        ------
        UserError
            If the loss is no longer finite.
        """
        self.network.train()
        total = 0.0
        order = self._shuffle.permutation(len(self.examples))
        bounds = batch_bounds(len(self.examples), self.recipe.batch_size, fewest=self._min_batch)
        steps = self.progress(
            bounds, total=len(bounds), description=f"{self.name} epoch {number}", unit="step"
        )
        for step, (start, end) in enumerate(steps, start=(number - 1) * len(bounds)):
            if rate:
                for group in self.optimizer.param_groups:
                    group["lr"] = rate(step, self.recipe.max_epochs * len(bounds))
            share = order[start:end][distributed.rank() :: distributed.world_size()]
            features, targets = self.examples.batch(share, self.device)
            with self._precision():
                logits = self._parallel(**features)
            # A process without examples has no mean loss, but must take part in the backward pass.
            loss = self._loss(logits, targets) if len(share) else logits.sum()
            self.optimizer.zero_grad()
            # DDP averages gradients over processes; weight each by its share of the batch.
            (loss * (distributed.world_size() * len(share) / (end - start))).backward()
            self.optimizer.step()
            total += loss.item() * len(targets)
        total = distributed.all_reduce_sum(total)
        if not np.isfinite(total):
            raise UserError(
                f"{self.name}: the loss is no longer finite in epoch {number}; a smaller lr may help"
            )
        return total / len(self.examples)

    def probabilities(self, examples: Examples) -> np.ndarray:
        """Return the network's probabilities for other examples [shape=(n, outputs)]."""
        outputs = None
        if distributed.rank() == 0:
            self.network.eval()
            size = 2 * self.recipe.batch_size
            outputs = predict(
                CalibratedClassifier(self.network, []), examples, batch_size=size, device=self.device
            )
        return distributed.broadcast(outputs)

    def loss(self, examples: Examples) -> float:
        """Return the mean loss on other examples."""
        self.network.eval()
        total = 0.0
        with torch.inference_mode():
            for features, targets in examples.batches(2 * self.recipe.batch_size, device=self.device):
                total += self._loss(self.network(**features), targets).item() * len(targets)
        return total / len(examples)

    def save_state(self, state: TrainingState) -> None:
        """Copy weights, optimizer and random generators into a state."""
        optimizer = self.optimizer.state_dict()
        state.tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, slots in optimizer["state"].items():
            state.tensors |= {f"optimizer.{index}.{slot}": tensor for slot, tensor in slots.items()}
        for index, generator_state in enumerate(distributed.all_gather(torch.get_rng_state())):
            state.tensors[_generator(index)] = generator_state
        if self.device.type == "cuda":
            state.tensors["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        state.values["optimizer"] = optimizer["param_groups"]
        state.values["shuffle"] = self._shuffle.bit_generator.state

    @torch.no_grad()
    def load_state(self, state: TrainingState) -> None:
        """Restore weights, optimizer and random generators from a state."""
        parameters = list(self.network.parameters())
        slots: dict[int, dict[str, torch.Tensor]] = {}
        weights = {}
        for name, tensor in state.tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "network":
                weights[rest] = tensor
            elif kind == "optimizer":
                index, slot = rest.split(".")
                parameter = parameters[int(index)]
                if tensor.shape == parameter.shape:
                    tensor = torch.empty_like(parameter).copy_(tensor)  # with the parameter's memory format
                slots.setdefault(int(index), {})[slot] = tensor
        self.network.load_state_dict(weights)
        self.optimizer.load_state_dict({"state": slots, "param_groups": state.values["optimizer"]})
        torch.set_rng_state(state.tensors[_generator(distributed.rank())])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state.tensors["generator.cuda"], self.device)
        self._shuffle.bit_generator.state = state.values["shuffle"]

    def _check_batch_size(self) -> int:
        """Return the minimum batch size: two examples for each batch norm that is not synchronised.

        Raises
        ------
        UserError
            If the batches are smaller.
        """
        has_local_norms = any(type(module) in distributed.SYNCED for module in self.network.modules())
        minimum = 2 * distributed.world_size() if has_local_norms else 2
        size = min(self.recipe.batch_size, len(self.examples))
        if distributed.world_size() > 1 and size < minimum:
            raise UserError(
                f"{self.name}: a batch has {size} examples, should have at least {minimum}: two for each of "
                f"{distributed.world_size()} processes, whose batch norms are apart; set batch_size higher, "
                "compute.processes lower, or compute.synchronise to true"
            )
        return minimum

    def _loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(
            logits.float(), targets, pos_weight=self._pos_weight
        )

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")


def _generator(rank: int) -> str:
    """Return the key of a process's random generator in a state."""
    return f"generator.cpu.{rank}" if rank else "generator.cpu"


def fit_classifier(
    head: torch.nn.Module,
    values: torch.Tensor,
    targets: torch.Tensor,
    *,
    name: str,
    seed: int,
    lr: float,
    weight_decay: float,
    batch_size: int,
    max_epochs: int,
    mixup_alpha: float = 0.0,
    on_epoch: Any = lambda *_: None,
) -> None:
    """Train a head in place, with AdamW, cosine decay of the learning rate and mixup.

    Parameters
    ----------
    head : torch.nn.Module
        Takes embeddings. Its `standardised` layer is fitted first.
    values : torch.Tensor [shape=(n, …)]
        Embeddings.
    targets : torch.Tensor [shape=(n, outputs)]
        NaN where a label is not known.
    name : str
        Names the random streams, to distinguish this head from others of the system.
    seed : int
    lr : float
        Initial learning rate.
    weight_decay : float
    batch_size, max_epochs : int
    mixup_alpha : float
        Alpha of the Beta distribution; 0 switches mixup off.
    on_epoch : callable
        Called after each epoch with its number, the mean loss and the head.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    head.standardised.fit(values)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=weight_decay)
    steps = max_epochs * -(-len(values) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    shuffle = random_stream(seed, "shuffle", name)
    seed_torch(seed, "dropout", name)
    for number in range(1, max_epochs + 1):
        head.train()
        total = 0.0
        order = torch.from_numpy(shuffle.permutation(len(values))).to(values.device)
        for chosen in order.split(batch_size):
            x, y = augmentation.apply_mixup(values[chosen].float(), targets[chosen], mixup_alpha, shuffle)
            loss = known_cross_entropy(head(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if not np.isfinite(total):
            raise UserError(f"{name}: the loss is no longer finite in epoch {number}; a smaller lr may help")
        on_epoch(number, total / len(values), head)
