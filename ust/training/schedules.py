"""Learning-rate schedules (the report's, and linear warm-up with cosine decay) and early stopping."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

MILDEST_FACTOR = 0.9
CHANGING = ("lr", "reduce_factor", "restarts", "reductions", "stagnant")


@dataclass
class StagnationSchedule:
    """The report's schedule: reduce the learning rate after epochs without a new best score.

    After more than `patience` such epochs in a row, the rate is multiplied by the reduce factor and the
    optimizer is reset. A rate at `min_lr` returns to the initial one (a warm restart), and the factor grows
    by `factor_step`, to at most 0.9. The report has no such limit, without which the factor reaches 1.

    Attributes
    ----------
    restart : {"reached", "passed"}
        "reached" restarts instead of a reduction to `min_lr` or below, as in the report's text. "passed"
        restarts after training at or below `min_lr`, as in the authors' code. There 0.01 × 0.1⁴ is above
        1e-6, by a rounding error.
    lr : float
        The current rate.
    reduce_factor : float
        The current factor.
    restarts : int
        Number of warm restarts.
    reductions : int
        Number of changes of the rate.
    stagnant : int
        Epochs since the last best score or change of the rate.
    """

    initial_lr: float
    patience: int
    reduce_factor: float
    min_lr: float
    factor_step: float
    restart: str = "reached"
    lr: float = field(init=False)
    restarts: int = field(init=False, default=0)
    reductions: int = field(init=False, default=0)
    stagnant: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.lr = self.initial_lr

    def step_lr(self, step: int, steps: int) -> float:
        """Return the learning rate of a training step, which is constant within an epoch."""
        return self.lr

    def step(self, *, improved: bool) -> bool:
        """Update after an epoch; return whether the rate changed and the optimizer is to be reset."""
        self.stagnant = 0 if improved else self.stagnant + 1
        if self.stagnant <= self.patience:
            return False
        self.stagnant = 0
        self.reductions += 1
        reduced = self.lr * self.reduce_factor
        # In floating point, 0.01 × 0.1⁴ is slightly above 1e-6.
        back = self.lr <= self.min_lr if self.restart == "passed" else reduced <= self.min_lr * (1 + 1e-9)
        self.lr = self.initial_lr if back else reduced
        if back:
            self.restarts += 1
            self.reduce_factor = min(self.reduce_factor + self.factor_step, MILDEST_FACTOR)
        return True

    def state_dict(self) -> dict[str, float | int]:
        """Return the values that change from epoch to epoch."""
        return {name: getattr(self, name) for name in CHANGING}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Restore the values of `state_dict`."""
        for name in CHANGING:
            setattr(self, name, state[name])


def warmup_cosine(step: int, steps: int, warm_up: float) -> float:
    """Return the learning rate of a step as a share of the maximum: linear warm-up, then cosine decay.

    The last step of the warm-up has the maximum. The cosine reaches 0 after the last step, not at it.

    Parameters
    ----------
    step : int
        From 0.
    steps : int
        Number of steps of the whole training.
    warm_up : float
        Share of the steps that are warm-up. If it has no step, the first step has the maximum.

    Examples
    --------
    >>> [round(warmup_cosine(step, 8, 0.5), 2) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 0.9, 0.65, 0.35, 0.1]
    """
    highest = max(round(warm_up * steps), 1) - 1
    if step < highest:
        return (step + 1) / (highest + 1)
    return (1 + math.cos(math.pi * (step - highest) / (steps - highest))) / 2


@dataclass
class CosineSchedule:
    """Linear warm-up to `highest_lr`, then cosine decay to 0, independent of scores.

    Attributes
    ----------
    lr : float
        The rate of the last step.
    """

    highest_lr: float
    warm_up: float
    restarts: ClassVar[int] = 0
    lr: float = field(init=False, default=0.0)

    def step_lr(self, step: int, steps: int) -> float:
        """Return the learning rate of step `step` of `steps`."""
        self.lr = self.highest_lr * warmup_cosine(step, steps, self.warm_up)
        return self.lr

    def step(self, *, improved: bool) -> bool:
        """Return False: the optimizer is never reset."""
        return False

    def state_dict(self) -> dict[str, float | int]:
        """Return an empty dict: the rate depends on the step alone."""
        return {}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Restore the values of `state_dict`."""


@dataclass
class EarlyStopping:
    """Early stopping after `patience` epochs in a row without a new lowest loss.

    Attributes
    ----------
    lowest : float
    since : int
        Epochs since the lowest loss.
    """

    patience: int
    lowest: float = field(init=False, default=math.inf)
    since: int = field(init=False, default=0)

    def step(self, loss: float) -> bool:
        """Update after an epoch; return whether its loss is the lowest so far."""
        improved = loss < self.lowest
        self.since = 0 if improved else self.since + 1
        self.lowest = min(self.lowest, loss)
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether to stop."""
        return self.since >= self.patience
