"""When to change the learning rate (the report's schedule) and when to stop."""

import math
from dataclasses import dataclass, field

MILDEST_FACTOR = 0.9


@dataclass
class StagnationSchedule:
    """Learning rate driven by whether an epoch brought a new best score.

    After more than `patience` epochs in a row without one, the rate is multiplied by the reduce factor and
    the optimiser starts afresh. A rate that would be at or below `min_lr` returns to the initial one instead,
    and the factor grows by `factor_step` (to at most 0.9, beyond which it would reduce no more).

    Attributes
    ----------
    lr : float
        The current rate.
    reduce_factor : float
        The current factor.
    restarts : int
        How often the rate returned to the initial one.
    """

    initial_lr: float
    patience: int
    reduce_factor: float
    min_lr: float
    factor_step: float
    lr: float = field(init=False)
    restarts: int = field(init=False, default=0)
    stagnant: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.lr = self.initial_lr

    def step(self, *, improved: bool) -> bool:
        """Take note of an epoch; True if the rate changed and the optimiser should start afresh."""
        self.stagnant = 0 if improved else self.stagnant + 1
        if self.stagnant <= self.patience:
            return False
        self.stagnant = 0
        self.lr *= self.reduce_factor
        # 0.01 × 0.1⁴ is a rounding error above 1e-6.
        if self.lr <= self.min_lr * (1 + 1e-9):
            self.lr = self.initial_lr
            self.restarts += 1
            self.reduce_factor = min(self.reduce_factor + self.factor_step, MILDEST_FACTOR)
        return True


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
