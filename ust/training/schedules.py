"""Learning-rate schedules: the report's, its authors' code's, and linear warm-up with cosine decay."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch

MAX_REDUCE_FACTOR = 0.9
ROUNDING = 1 + 1e-9  # tolerance of the comparison with the minimum


class Schedule(Protocol):
    """A learning-rate schedule, as `ust.training.trainer.Trainer` calls it.

    Attributes
    ----------
    lr : float
        The rate of the last step; before the first one, the initial or the highest rate.
    restarts : int
        Number of warm restarts so far.
    """

    lr: float
    restarts: int

    def step_lr(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a training step, counted from 0 over all epochs."""

    def step(self, *, improved: bool, scores: Mapping[str, float]) -> bool:
        """Update after an epoch; return whether the optimizer is to be reset."""

    def state_dict(self) -> dict[str, Any]:
        """Return the values that change from epoch to epoch; they fit into JSON."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the values of `state_dict`."""


class StatelessSchedule:
    """Base class of schedules whose rate depends on the step alone, so that they have no state to save."""

    restarts: ClassVar[int] = 0

    def step(self, *, improved: bool, scores: Mapping[str, float]) -> bool:
        """Return False: the optimizer is never reset."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return an empty dict: the rate depends on the step alone."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


@dataclass
class ConstantSchedule(StatelessSchedule):
    """A constant learning rate."""

    lr: float

    def step_lr(self, step: int, steps_per_epoch: int) -> float:
        """Return the rate."""
        return self.lr


@dataclass
class CosineSchedule(StatelessSchedule):
    """Linear warm-up to the highest rate, then cosine decay to 0, independent of scores.

    The last step of the warm-up has the highest rate. The cosine reaches 0 after the last step, not at it.

    Parameters
    ----------
    peak_lr : float
    warm_up : float
        Share of the steps that are warm-up. If it has no step, the first step has the highest rate.
    epochs : int
        Length of the schedule, at the end of which the rate is 0. A training may stop earlier.

    Attributes
    ----------
    lr : float
        The rate of the last step; before the first one, the peak.

    Examples
    --------
    >>> schedule = CosineSchedule(1.0, warm_up=0.5, epochs=2)
    >>> [round(schedule.step_lr(step, steps_per_epoch=4), 2) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 0.9, 0.65, 0.35, 0.1]
    """

    peak_lr: float
    warm_up: float
    epochs: int
    lr: float = field(init=False)

    def __post_init__(self) -> None:
        self.lr = self.peak_lr

    def step_lr(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a training step, counted from 0 over all epochs."""
        steps = self.epochs * steps_per_epoch
        peak = max(round(self.warm_up * steps), 1) - 1  # the step with the highest rate
        if step < peak:
            factor = (step + 1) / (peak + 1)
        else:
            factor = (1 + math.cos(math.pi * (step - peak) / (steps - peak))) / 2
        self.lr = self.peak_lr * factor
        return self.lr


@dataclass
class StagnationSchedule:
    """The report's schedule (section 5): reduce the rate after epochs without a new best score.

    After more than `patience` such epochs in a row, the rate is multiplied by the reduce factor and the
    optimizer is reset. A rate at `min_lr` returns to the initial one (a warm restart), and the factor grows
    by `factor_step`, to at most 0.9. The report has no such limit, without which the factor reaches 1.

    Parameters
    ----------
    initial_lr : float
    patience : int
    reduce_factor : float
    min_lr : float
    factor_step : float
    restart : {"reached", "passed"}
        "reached" restarts instead of a reduction to `min_lr` or below, as in the report's text. "passed"
        restarts after an epoch at or below `min_lr`, as in the authors' code. In floating point, 0.01 × 0.1⁴
        is above 1e-6, so that their code trains at one rate below it.

    Attributes
    ----------
    lr : float
        The current rate.
    reduce_factor : float
        The current factor.
    restarts : int
        Number of warm restarts.
    stagnant : int
        Epochs since the last best score or change of the rate.
    """

    STATE_FIELDS: ClassVar[tuple[str, ...]] = ("lr", "reduce_factor", "restarts", "stagnant")

    initial_lr: float
    patience: int
    reduce_factor: float
    min_lr: float
    factor_step: float
    restart: str = "reached"
    lr: float = field(init=False)
    restarts: int = field(init=False, default=0)
    stagnant: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.lr = self.initial_lr

    def step_lr(self, step: int, steps_per_epoch: int) -> float:
        """Return the rate, which is constant within an epoch."""
        return self.lr

    def step(self, *, improved: bool, scores: Mapping[str, float]) -> bool:
        """Update after an epoch; return whether the rate changed and the optimizer is to be reset."""
        self.stagnant = 0 if improved else self.stagnant + 1
        if self.stagnant <= self.patience:
            return False
        self.stagnant = 0
        reduced = self.lr * self.reduce_factor
        back = self.lr <= self.min_lr if self.restart == "passed" else reduced <= self.min_lr * ROUNDING
        self.lr = self.initial_lr if back else reduced
        if back:
            self.restarts += 1
            self.reduce_factor = min(self.reduce_factor + self.factor_step, MAX_REDUCE_FACTOR)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the values that change from epoch to epoch."""
        return {name: getattr(self, name) for name in self.STATE_FIELDS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the values of `state_dict`."""
        for name in self.STATE_FIELDS:
            setattr(self, name, state[name])


class PlateauSchedule:
    """PyTorch's `ReduceLROnPlateau` on the score ``validation_loss``, as in the authors' code.

    Parameters
    ----------
    initial_lr : float
    patience : int
        The rate is reduced after more than this many epochs in a row without a lower loss.
    reduce_factor : float
    """

    restarts = 0

    def __init__(self, initial_lr: float, patience: int, reduce_factor: float) -> None:
        # ReduceLROnPlateau changes the rate of an optimizer; this one has no other purpose than to hold it.
        self._optimizer = torch.optim.SGD([torch.zeros(1)], lr=initial_lr)
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimizer, factor=reduce_factor, patience=patience
        )

    @property
    def lr(self) -> float:
        """The current rate."""
        return self._optimizer.param_groups[0]["lr"]

    def step_lr(self, step: int, steps_per_epoch: int) -> float:
        """Return the rate, which is constant within an epoch."""
        return self.lr

    def step(self, *, improved: bool, scores: Mapping[str, float]) -> bool:
        """Update after an epoch; return False: the optimizer is never reset."""
        self._plateau.step(scores["validation_loss"])
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return the rate and the state of `ReduceLROnPlateau`."""
        return {"lr": self.lr, "plateau": self._plateau.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the values of `state_dict`."""
        self._optimizer.param_groups[0]["lr"] = state["lr"]
        self._plateau.load_state_dict(state["plateau"])
