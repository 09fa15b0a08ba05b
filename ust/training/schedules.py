"""How the learning rate goes (the report's schedule, or a cosine) and when to stop."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

MILDEST_FACTOR = 0.9
CHANGING = ("lr", "reduce_factor", "restarts", "reductions", "stagnant")


@dataclass
class StagnationSchedule:
    """Learning rate driven by whether an epoch brought a new best score.

    After more than `patience` epochs in a row without one, the rate is multiplied by the reduce factor and
    the optimiser starts afresh. When it has come to `min_lr`, it returns to the initial one and the factor
    grows by `factor_step` (to at most 0.9, beyond which it would reduce no more; a bound the report lacks).

    Attributes
    ----------
    restart : {"reached", "passed"}
        Return instead of a reduction that would reach `min_lr` (the report's text), or after training with
        the first rate at or below it (its authors' code, in which 0.01 × 0.1⁴ is not: a rounding error).
    lr : float
        The current rate.
    reduce_factor : float
        The current factor.
    restarts : int
        How often the rate returned to the initial one.
    reductions : int
        How often it changed at all.
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
        """The rate of a step of a training of so many."""
        return self.lr

    def step(self, *, improved: bool) -> bool:
        """Take note of an epoch; True if the rate changed and the optimiser should start afresh."""
        self.stagnant = 0 if improved else self.stagnant + 1
        if self.stagnant <= self.patience:
            return False
        self.stagnant = 0
        self.reductions += 1
        reduced = self.lr * self.reduce_factor
        # 0.01 × 0.1⁴ is a rounding error above 1e-6.
        back = self.lr <= self.min_lr if self.restart == "passed" else reduced <= self.min_lr * (1 + 1e-9)
        self.lr = self.initial_lr if back else reduced
        if back:
            self.restarts += 1
            self.reduce_factor = min(self.reduce_factor + self.factor_step, MILDEST_FACTOR)
        return True

    def state_dict(self) -> dict[str, float | int]:
        """What changes from epoch to epoch."""
        return {name: getattr(self, name) for name in CHANGING}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Restore the values of `state_dict`."""
        for name in CHANGING:
            setattr(self, name, state[name])


def warmup_cosine(step: int, steps: int, warm_up: float) -> float:
    """Share of the highest rate: a linear warm-up, whose last step has all of it, then a cosine decay.

    After the last step the cosine is at 0; that step itself still has a rate.

    Parameters
    ----------
    step : int
        From 0.
    steps : int
        Of the whole training.
    warm_up : float
        Share of the steps in which the rate rises; the first step has the highest rate where that is none.

    Examples
    --------
    >>> [round(cosine(step, 8, 0.5), 2) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 0.9, 0.65, 0.35, 0.1]
    """
    highest = max(round(warm_up * steps), 1) - 1
    if step < highest:
        return (step + 1) / (highest + 1)
    return (1 + math.cos(math.pi * (step - highest) / (steps - highest))) / 2


@dataclass
class CosineSchedule:
    """Learning rate that rises to `highest_lr`, and falls to 0 as a cosine; scores change nothing.

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
        """The rate of a step of a training of so many."""
        self.lr = self.highest_lr * warmup_cosine(step, steps, self.warm_up)
        return self.lr

    def step(self, *, improved: bool) -> bool:
        """Take note of an epoch; the optimiser never starts afresh."""
        return False

    def state_dict(self) -> dict[str, float | int]:
        """What changes from epoch to epoch beside the rate: nothing."""
        return {}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Restore the values of `state_dict`."""


@dataclass
class EarlyStopping:
    """Whether a loss has gone `patience` epochs in a row without a new lowest value.

    Attributes
    ----------
    lowest : float
    since : int
        Epochs since it was reached.
    """

    patience: int
    lowest: float = field(init=False, default=math.inf)
    since: int = field(init=False, default=0)

    def step(self, loss: float) -> bool:
        """Take note of an epoch; True if its loss is the lowest so far."""
        improved = loss < self.lowest
        self.since = 0 if improved else self.since + 1
        self.lowest = min(self.lowest, loss)
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether to stop."""
        return self.since >= self.patience
