"""The training loop, used by all trainers: epochs, batches, monitoring, stopping and resuming."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ust.features.context import select_audio_inputs
from ust.models.context import audio_network
from ust.models.examples import Batch, Batches, TensorExamples, batch_bounds, predict
from ust.models.systems import CalibratedClassifier
from ust.training import distributed
from ust.training.augmentation import mixup_batch
from ust.training.losses import Loss, masked_cross_entropy
from ust.training.schedules import CosineSchedule, Schedule
from ust.util.config import Precision
from ust.util.device import seed_torch
from ust.util.errors import UserError
from ust.util.progress import Progress, silent
from ust.util.seeding import random_stream
from ust.util.tensors import write_tensors

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Epoch:
    """Result of an epoch.

    Attributes
    ----------
    number : int
        From 1.
    loss : float
        Mean over the training examples.
    scores : dict of str to float
        Monitored values: the validation score of each level, or ``validation_loss``.
    lr : float
        Learning rate of the epoch or, with a schedule by step, of its last step.
    restarts : int
        Number of warm restarts so far.
    best : tuple of str
        Keys of `scores` with a new best value.
    """

    number: int
    loss: float
    scores: dict[str, float]
    lr: float
    restarts: int = 0
    best: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Epoch":
        """Rebuild an epoch from the result of `dataclasses.asdict`, also after a round trip through JSON."""
        return cls(**{**values, "best": tuple(values["best"])})

    def figures(self) -> dict[str, float]:
        """Metrics of the learning curve."""
        return {"loss": self.loss, **self.scores, "lr": self.lr, "restarts": self.restarts}


def epochs_since_best(epochs: Sequence[Epoch], level: str | None = None) -> int:
    """Return the number of epochs since the last best one of a level, by default of any level."""
    best = (epoch.number for epoch in epochs if (level in epoch.best if level else epoch.best))
    return epochs[-1].number - max(best, default=0) if epochs else 0


@dataclass
class TrainingState:
    """Checkpoint for resuming a training: the state of one network after its last saved epoch.

    Attributes
    ----------
    path : Path or None
        The safetensors file; None writes no file, and `tensors` then are the live tensors, not copies.
    epochs : list of dict
        Results of the epochs so far, as dictionaries of `Epoch`.
    values : dict
        State that fits into JSON.
    tensors : dict of str to torch.Tensor
        State in tensors.
    """

    KEY = "state"

    path: Path | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "TrainingState":
        """Read a state; return an empty one if the file is missing or unreadable."""
        try:
            with safe_open(path, "pt") as file:
                content = json.loads(file.metadata()[cls.KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(path, content["epochs"], content["values"], tensors)
        except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError):
            return cls(path)

    def write(self) -> None:
        """Write the file atomically, if there is a path."""
        if self.path is not None:
            content = {"epochs": self.epochs, "values": self.values}
            write_tensors(self.path, self.tensors, {self.KEY: json.dumps(content)})


Augment = Callable[[Batch, torch.Tensor, np.random.Generator], tuple[Batch, torch.Tensor]]
Monitor = Callable[["Trainer"], dict[str, float]]


@dataclass(kw_only=True, eq=False)
class Trainer:
    """Trains a network in place.

    `fit` restores an interrupted training, then for each epoch trains on all batches, monitors and saves; at
    the end it restores the best weights if `restore_best`.

    Parameters
    ----------
    network : torch.nn.Module
        On `device`. Called with the inputs of a batch by name; returns logits [shape=(batch, outputs)].
    examples : Batches
        The training examples, with targets of the network's outputs.
    loss : callable
        Maps logits and targets to a scalar, the mean over the batch.
    optimizer : callable
        Makes an optimizer from parameters and ``lr``, such as ``partial(torch.optim.Adam, fused=True)``.
    schedule : Schedule
        Sets the learning rate of each step.
    batch_size, max_epochs : int
        A last batch that is too small for batch norms is merged into the one before.
    seed : int
    name : str
        Names the random streams of order, augmentation and dropout, which distinguishes the networks of a
        system.
    device : torch.device
    monitor : callable, optional
        Returns scores by name after each epoch, given the trainer; see `monitor_scores`, `monitor_loss`.
    mode : {"max", "min", None}
        Whether the highest or the lowest monitored values are best. None records them without choosing epochs
        by them.
    stop_patience : int, optional
        Stop after this many epochs in a row without a new best value. By default all epochs are trained.
    restore_best : bool
        Whether to end with the weights of the last best epoch instead of those of the last epoch.
    augment : callable, optional
        Maps inputs, targets and a random generator to the augmented inputs and targets of a batch.
    augment_stream : {"draws", "shuffle", "batch"}
        Random stream for `augment`: one of its own, that of the order, or a new one for each batch, seeded by
        the indices of its examples.
    sampler : callable, optional
        Returns the indices of an epoch's examples in order, given a random generator. By default a
        permutation.
    eval_modules : sequence of torch.nn.Module
        Modules that stay in evaluation mode while their weights are trained, so that batch norms keep their
        statistics.
    average : float
        Decay of the exponential moving average of the weights over steps; 0 takes the last weights.
    precision : {"float32", "bfloat16"}
        "bfloat16" computes the forward pass in mixed precision.
    state : TrainingState
        The state to resume from, updated as training goes on.
    checkpoint_every : int
        The state is saved after each such number of epochs, and after the last one.
    on_epoch : callable
        Called after each epoch with its `Epoch`, but not for epochs before a resumed training.
    progress : Progress
        Wraps the batches of each epoch.

    Raises
    ------
    UserError
        If a batch is too small for the batch norms of several processes.

    Examples
    --------
    >>> network = nn.Linear(2, 1)
    >>> examples = TensorExamples({"input": torch.eye(2)}, torch.tensor([[0.0], [1.0]]))
    >>> trainer = Trainer(
    ...     network=network, examples=examples, loss=masked_cross_entropy,
    ...     optimizer=torch.optim.Adam, schedule=CosineSchedule(0.1, warm_up=0.1, epochs=50), batch_size=2,
    ...     max_epochs=50, seed=0, name="example", device=torch.device("cpu"),
    ... )  # fmt: skip
    >>> epochs = trainer.fit()
    >>> epochs[-1].loss < epochs[0].loss
    True
    """

    network: nn.Module
    examples: Batches
    loss: Loss
    optimizer: Callable[..., torch.optim.Optimizer]
    schedule: Schedule
    batch_size: int
    max_epochs: int
    seed: int
    name: str
    device: torch.device
    monitor: Monitor | None = None
    mode: Literal["max", "min"] | None = "max"
    stop_patience: int | None = None
    restore_best: bool = False
    augment: Augment | None = None
    augment_stream: Literal["draws", "shuffle", "batch"] = "draws"
    sampler: Callable[[np.random.Generator], np.ndarray] | None = None
    eval_modules: Sequence[nn.Module] = ()
    average: float = 0.0
    precision: Precision = "float32"
    state: TrainingState = field(default_factory=TrainingState)
    checkpoint_every: int = 1
    on_epoch: Callable[[Epoch], None] = lambda _: None
    progress: Progress = silent

    def __post_init__(self) -> None:
        self.min_batch = self._min_batch_size()
        self.streams = {
            name: random_stream(self.seed, name, self.name)
            for name in {"shuffle", self.augment_stream} - {"batch"}
        }
        # Each process has its own random stream for dropout.
        rank = [str(distributed.rank())] if distributed.rank() else []
        seed_torch(self.seed, "dropout", self.name, *rank)
        self.averaged = None
        if self.average:
            self.averaged = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(self.average))
        self.best_weights: dict[str, torch.Tensor] = {}
        self.parallel = (
            DistributedDataParallel(self.network) if distributed.world_size() > 1 else self.network
        )
        self._reset_optimizer()

    @property
    def trained(self) -> nn.Module:
        """The network to keep: the moving average of the weights, if there is one."""
        return self.averaged.module if self.averaged else self.network

    def fit(self) -> list[Epoch]:
        """Train until the last epoch or until no monitored value improves.

        Returns
        -------
        list of Epoch
            All epochs, including those before a resumed training.

        Raises
        ------
        UserError
            If the loss is no longer finite.
        """
        epochs = [Epoch.from_dict(values) for values in self.state.epochs]
        if epochs:
            self._load_state()
        while not self._is_finished(epochs):
            number = len(epochs) + 1
            loss = self.train_epoch(number)
            scores = self.monitor(self) if self.monitor else {}
            if not (math.isfinite(loss) and (self.mode != "min" or all(map(math.isfinite, scores.values())))):
                raise UserError(
                    f"{self.name}: the loss is no longer finite in epoch {number}; a smaller lr may help"
                )
            best = self._new_best(epochs, scores)
            epoch = Epoch(number, loss, scores, self.schedule.lr, self.schedule.restarts, best)
            if best and self.restore_best:
                self.best_weights = {name: value.clone() for name, value in self.trained.state_dict().items()}
            self.on_epoch(epoch)
            epochs.append(epoch)
            if self.schedule.step(improved=bool(best), scores=scores):
                self._reset_optimizer()
            if number % self.checkpoint_every == 0 or self._is_finished(epochs):
                self._save_state(epochs)
        if self.best_weights:
            self.trained.load_state_dict(self.best_weights)
        return epochs

    def train_epoch(self, number: int) -> float:
        """Train one epoch, numbered from 1; return the mean loss."""
        self.network.train()
        for module in self.eval_modules:
            module.eval()
        shuffle = self.streams["shuffle"]
        order = self.sampler(shuffle) if self.sampler else shuffle.permutation(len(self.examples))
        bounds = batch_bounds(len(order), self.batch_size, fewest=self.min_batch)
        batches = self.progress(
            bounds, total=len(bounds), description=f"{self.name} epoch {number}", unit="step"
        )
        rank, world_size = distributed.rank(), distributed.world_size()
        total = 0.0
        for step, (start, end) in enumerate(batches, start=(number - 1) * len(bounds)):
            for group in self._optimizer.param_groups:
                group["lr"] = self.schedule.step_lr(step, len(bounds))
            share = order[start:end][rank::world_size]  # this process's part of the batch
            inputs, targets = self.examples.batch(share, self.device)
            if self.augment:
                inputs, targets = self.augment(inputs, targets, self._augment_stream(share))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                logits = self.parallel(**inputs).float()
            # A process without examples has no mean loss, but must take part in the backward pass.
            loss = self.loss(logits, targets) if len(share) else logits.sum()
            self._optimizer.zero_grad()
            # DDP averages gradients over processes; weight each by its share of the batch.
            (loss * (world_size * len(share) / (end - start))).backward()
            self._optimizer.step()
            if self.averaged:
                self.averaged.update_parameters(self.network)
            total += loss.item() * len(share)
        return distributed.all_reduce_sum(total) / len(order)

    def predict(self, examples: Batches, batch_size: int) -> np.ndarray:
        """Return the probabilities of examples [shape=(n, outputs)], computed by the first process."""
        outputs = None
        if distributed.rank() == 0:
            classifier = CalibratedClassifier(self.trained.eval(), [])
            outputs = predict(classifier, examples, batch_size=batch_size, device=self.device)
        return distributed.broadcast(outputs)

    @torch.inference_mode()
    def mean_loss(self, examples: Batches, batch_size: int) -> float:
        """Return the mean loss on examples that are not trained on."""
        network, total = self.trained.eval(), 0.0
        for inputs, targets in examples.batches(batch_size, device=self.device):
            total += self.loss(network(**inputs).float(), targets).item() * len(targets)
        return total / len(examples)

    def _min_batch_size(self) -> int:
        """Return the smallest batch that the batch norms can train on.

        It has two examples, or two for each process if they are not synchronised.

        Raises
        ------
        UserError
            If the batches are smaller.
        """
        norms = [module for module in self.network.modules() if isinstance(module, BATCH_NORMS)]
        if not norms:
            return 1
        processes = distributed.world_size()
        minimum = 2 * processes if any(type(norm) in distributed.SYNCED_CLASS for norm in norms) else 2
        size = min(self.batch_size, len(self.examples))
        if processes > 1 and size < minimum:
            raise UserError(
                f"{self.name}: a batch has {size} examples, should have at least {minimum}: two for each of "
                f"{processes} processes, whose batch norms are apart; set batch_size higher, "
                "compute.processes lower, or compute.synchronise to true"
            )
        return minimum

    def _reset_optimizer(self) -> None:
        """Make a new optimizer, with the schedule's learning rate."""
        self._optimizer = self.optimizer(self.network.parameters(), lr=self.schedule.lr)

    def _augment_stream(self, indices: np.ndarray) -> np.random.Generator:
        """Return the random generator for the augmentation of a batch."""
        if self.augment_stream == "batch":
            return random_stream(self.seed, "augment", indices.tobytes().hex())
        return self.streams[self.augment_stream]

    def _is_finished(self, epochs: Sequence[Epoch]) -> bool:
        """Return whether all epochs are trained, or early stopping ends the training."""
        if self.stop_patience is not None and epochs and epochs_since_best(epochs) >= self.stop_patience:
            return True
        return len(epochs) >= self.max_epochs

    def _new_best(self, epochs: Sequence[Epoch], scores: dict[str, float]) -> tuple[str, ...]:
        """Return the names of scores that are better than in all epochs before; ties are not."""
        sign = {"max": 1, "min": -1, None: 0}[self.mode]
        if not sign:
            return ()
        names = []
        for name, value in scores.items():
            before = (sign * epoch.scores[name] for epoch in epochs if not math.isnan(epoch.scores[name]))
            if sign * value > max(before, default=-math.inf):
                names.append(name)
        return tuple(names)

    def _save_state(self, epochs: Sequence[Epoch]) -> None:
        """Save weights, optimizer, schedule and random generators after an epoch."""
        optimizer = self._optimizer.state_dict()
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, slots in optimizer["state"].items():
            tensors |= {f"optimizer.{index}.{slot}": tensor for slot, tensor in slots.items()}
        if self.averaged:
            tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        for key, generator_state in self._generator_states().items():
            for rank, state in enumerate(distributed.all_gather(generator_state)):
                tensors[f"generator.{key}.{rank}"] = state
        self.state.tensors = tensors
        self.state.values = {
            "optimizer": optimizer["param_groups"],
            "schedule": self.schedule.state_dict(),
            "streams": {name: stream.bit_generator.state for name, stream in self.streams.items()},
        }
        self.state.epochs += [asdict(epoch) for epoch in epochs[len(self.state.epochs) :]]
        self.state.write()

    def _generator_states(self) -> dict[str, torch.Tensor]:
        """Return the states of this process's random generators, by device."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    @torch.no_grad()
    def _load_state(self) -> None:
        """Restore weights, optimizer, schedule and random generators."""
        parameters = list(self.network.parameters())
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "averaged": {}, "best": {}}
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in self.state.tensors.items():
            part, rest = name.split(".", 1)
            if part in parts:
                parts[part][rest] = tensor
            elif part == "optimizer":
                index, slot = rest.split(".")
                parameter = parameters[int(index)]
                if tensor.shape == parameter.shape:
                    tensor = torch.empty_like(parameter).copy_(tensor)  # with the parameter's memory format
                slots.setdefault(int(index), {})[slot] = tensor
        self.network.load_state_dict(parts["network"])
        if self.averaged:
            self.averaged.load_state_dict(parts["averaged"])
        self.best_weights = parts["best"]
        values = self.state.values
        self._optimizer.load_state_dict({"state": slots, "param_groups": values["optimizer"]})
        self.schedule.load_state_dict(values["schedule"])
        rank = distributed.rank()
        torch.set_rng_state(self.state.tensors[f"generator.cpu.{rank}"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.state.tensors[f"generator.cuda.{rank}"], self.device)
        for name, stream in self.streams.items():
            stream.bit_generator.state = values["streams"][name]


def monitor_scores(
    examples: Batches, score: Callable[[np.ndarray], dict[str, float]], batch_size: int
) -> Monitor:
    """Return a monitor that scores the probabilities of validation examples."""
    return lambda trainer: score(trainer.predict(examples, batch_size))


def monitor_loss(examples: Batches, batch_size: int) -> Monitor:
    """Return a monitor of the training loss on validation examples, as the score ``validation_loss``."""
    return lambda trainer: {"validation_loss": trainer.mean_loss(examples, batch_size)}


def fit_classifier(
    head: nn.Module,
    examples: TensorExamples,
    *,
    name: str,
    seed: int,
    lr: float,
    weight_decay: float,
    batch_size: int,
    max_epochs: int,
    mixup: float = 0.0,
    **options: Any,
) -> list[Epoch]:
    """Train a head on embeddings in place, with AdamW, cosine decay of the learning rate and mixup.

    Parameters
    ----------
    head : torch.nn.Module
        Its `standardised` layer is fitted first.
    examples : TensorExamples
        Embeddings and, if the head takes them, time and place, in the memory of the device; targets are NaN
        where a label is not known.
    name : str
        Names the random streams, to distinguish this head from others of the system.
    seed : int
    lr : float
        Initial learning rate.
    weight_decay : float
    batch_size, max_epochs : int
    mixup : float
        Alpha of the Beta distribution; 0 switches mixup off.
    **options
        Further arguments of `Trainer`.

    Returns
    -------
    list of Epoch

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    (values,) = select_audio_inputs(examples.inputs).values()
    audio_network(head).standardised.fit(values)

    def augment(inputs: Batch, targets: torch.Tensor, rng: np.random.Generator) -> tuple[Batch, torch.Tensor]:
        return mixup_batch({name: x.float() for name, x in inputs.items()}, targets, mixup, rng)

    return Trainer(
        network=head, examples=examples, loss=masked_cross_entropy,
        optimizer=partial(torch.optim.AdamW, weight_decay=weight_decay),
        schedule=CosineSchedule(lr, warm_up=0.0, epochs=max_epochs), batch_size=batch_size,
        max_epochs=max_epochs, seed=seed, name=name, device=values.device, augment=augment,
        augment_stream="shuffle", **options,
    ).fit()  # fmt: skip
