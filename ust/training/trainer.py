"""One network trained epoch by epoch, whatever decides its learning rate and when to stop."""

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
from ust.training.state import TrainingState
from ust.util.config import Count, Positive, Precision, Section, Seed, Share, Weight
from ust.util.device import seed_torch
from ust.util.errors import UserError
from ust.util.progress import Progress, silent
from ust.util.seeding import random_stream

OPTIMIZERS = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}


class Network(Section):
    """What the recipes of networks have in params.yaml."""

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
    """A network to train in place.

    Attributes
    ----------
    network : torch.nn.Module
        On `device`; takes features by name, gives logits of the targets.
    train, validate : Examples
        With targets of the network's outputs.
    device : torch.device
    name : str
        Of the network among those of a system: each shuffles and drops out by draws of its own.
    on_epoch : callable
        Called after each epoch, when the network holds its weights: the place to save the best.
    state : TrainingState
        Where to go on from, for which `on_epoch` is not called again; kept up to date.
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
    """(negatives / positives) to a power for each label; 1 for a label without either.

    Parameters
    ----------
    targets : numpy.ndarray [shape=(n, labels)]
        0, 1, or a share between: a soft label counts as that share of a positive.
    """
    positive = targets.sum(axis=0, dtype=np.float64)
    negative = len(targets) - positive
    both = (positive > 0) & (negative > 0)
    ratio = np.divide(negative, positive, out=np.ones_like(positive), where=both)
    return ratio**power


class Trainer:
    """A network, its optimiser and its examples.

    Parameters
    ----------
    task : Task
    recipe : Network
    """

    def __init__(self, task: Task, recipe: Network) -> None:
        self.network, self.examples, self.recipe = task.network, task.train, recipe
        self.device, self.name, self.progress = task.device, task.name, task.progress
        self._shuffle = random_stream(recipe.seed, "shuffle", task.name)
        # Each process drops out by draws of its own.
        seed_torch(
            recipe.seed, "dropout", task.name, *([str(distributed.rank())] if distributed.rank() else [])
        )
        self._fewest = self._fewest_of_a_batch()
        self._parallel = (
            DistributedDataParallel(self.network) if distributed.world_size() > 1 else self.network
        )
        weights = positive_weights(task.train.targets, recipe.pos_weight_power)
        self._pos_weight = torch.from_numpy(weights).float().to(task.device)
        self.restart(recipe.lr)

    def restart(self, lr: float) -> None:
        """Go on with a fresh optimiser."""
        options = {"fused": True} if self.recipe.optimizer == "adam" else {}
        self.optimizer = OPTIMIZERS[self.recipe.optimizer](self.network.parameters(), lr=lr, **options)

    def epoch(self, number: int, rate: Callable[[int, int], float] | None = None) -> float:
        """Train once on every example; the mean loss.

        Parameters
        ----------
        number : int
            From 1.
        rate : callable, optional
            The learning rate of a step of the whole training, from 0, and of how many; by default it stays
            as it is.

        Raises
        ------
        UserError
            If the loss is no longer finite.
        """
        self.network.train()
        total = 0.0
        order = self._shuffle.permutation(len(self.examples))
        bounds = batch_bounds(len(self.examples), self.recipe.batch_size, fewest=self._fewest)
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
            # A share may be empty: its mean loss is not defined, but the process takes part with a loss of 0.
            loss = self._loss(logits, targets) if len(share) else logits.sum()
            self.optimizer.zero_grad()
            # Gradients are averaged over processes: each counts by its share of the batch.
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
        """What the network gives for other examples, with the weights as they are [shape=(n, outputs)]."""
        found = None
        if distributed.rank() == 0:
            self.network.eval()
            size = 2 * self.recipe.batch_size
            found = predict(
                CalibratedClassifier(self.network, []), examples, batch_size=size, device=self.device
            )
        return distributed.broadcast(found)

    def loss(self, examples: Examples) -> float:
        """The mean loss on other examples, with the weights as they are."""
        self.network.eval()
        total = 0.0
        with torch.inference_mode():
            for features, targets in examples.batches(2 * self.recipe.batch_size, device=self.device):
                total += self._loss(self.network(**features), targets).item() * len(targets)
        return total / len(examples)

    def keep(self, state: TrainingState) -> None:
        """Put all that the next epoch depends on into a state: weights, optimiser and generators."""
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
    def restore(self, state: TrainingState) -> None:
        """Go on from what `keep` put into a state."""
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
                    tensor = torch.empty_like(parameter).copy_(tensor)  # in its layout in memory
                slots.setdefault(int(index), {})[slot] = tensor
        self.network.load_state_dict(weights)
        self.optimizer.load_state_dict({"state": slots, "param_groups": state.values["optimizer"]})
        torch.set_rng_state(state.tensors[_generator(distributed.rank())])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state.tensors["generator.cuda"], self.device)
        self._shuffle.bit_generator.state = state.values["shuffle"]

    def _fewest_of_a_batch(self) -> int:
        """Batch norm needs two examples: of the batch, or of each share where it is over that alone.

        Raises
        ------
        UserError
            If no batch can have as many.
        """
        alone = any(type(module) in distributed.SYNCED for module in self.network.modules())
        fewest = 2 * distributed.world_size() if alone else 2
        found = min(self.recipe.batch_size, len(self.examples))
        if distributed.world_size() > 1 and found < fewest:
            raise UserError(
                f"{self.name}: a batch has {found} examples, should have at least {fewest}: two for each of "
                f"{distributed.world_size()} processes, whose batch norms are apart; set batch_size higher, "
                "compute.processes lower, or compute.synchronise to true"
            )
        return fewest

    def _loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(
            logits.float(), targets, pos_weight=self._pos_weight
        )

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")


def _generator(rank: int) -> str:
    """The name of a process's random numbers in a state."""
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
    mixup: float = 0.0,
    on_epoch: Any = lambda *_: None,
) -> None:
    """Train a head in place, by AdamW at a rate that falls as a cosine, with mixup.

    Parameters
    ----------
    head : torch.nn.Module
        Takes embeddings; its `standardised` is fitted first.
    values : torch.Tensor [shape=(n, …)]
        Embeddings.
    targets : torch.Tensor [shape=(n, outputs)]
    name : str
        Of the head among those of a system.

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
            x, y = augmentation.mixup(values[chosen].float(), targets[chosen], mixup, shuffle)
            loss = functional.binary_cross_entropy_with_logits(head(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if not np.isfinite(total):
            raise UserError(f"{name}: the loss is no longer finite in epoch {number}; a smaller lr may help")
        on_epoch(number, total / len(values), head)
