"""Number of epochs that fit into a time limit, estimated by training on a share of the clips."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ust.models.examples import Examples
from ust.training.work import TrainingContext, TrainingData
from ust.util.documents import read_json, write_json
from ust.util.progress import silent

PROBE_CLIPS = 128  # train clips of the estimate; of validate the same share is used


class _NoCallbacks:
    """Callbacks that do nothing."""

    def on_epoch(self, node: str, epoch: Any) -> None:
        """Do nothing."""

    def on_resume(self, node: str, epochs: list[Any]) -> None:
        """Do nothing."""


def within(
    minutes: float,
    system: Any,
    data: TrainingData,
    context: TrainingContext,
    fit: Callable[[Any, TrainingData, TrainingContext], None],
) -> Any:
    """Limit a system's epochs to those that fit into a number of minutes on this machine.

    The system is trained on a share of the clips with one epoch and with two; the difference is the time of
    an epoch. One-off work, such as fitting a head, is not counted. The number of epochs is stored with the
    training state, so that a resumed training uses the same one.

    Parameters
    ----------
    minutes : float
    system : SystemConfig
    data : TrainingData
    context : TrainingContext
    fit : callable
        Training function of the system's recipe.

    Returns
    -------
    SystemConfig
        With at least one epoch and at most its own number.
    """
    path = context.states / "budget.json"
    if not path.exists():
        write_json(path, {"max_epochs": _measure_epochs(minutes, system, data, context, fit)})
    return system.model_copy(update=read_json(path, made_by="train"))


def _measure_epochs(
    minutes: float,
    system: Any,
    data: TrainingData,
    context: TrainingContext,
    fit: Callable[[Any, TrainingData, TrainingContext], None],
) -> int:
    """Measure the number of epochs that fit into the minutes."""
    share = min(1.0, PROBE_CLIPS / len(data.train))
    subset = TrainingData(_subset(data.train, share), _subset(data.validate, share))
    seconds = []
    for epochs in (1, 2):
        with TemporaryDirectory() as scratch:
            place = Path(scratch)
            probe_context = replace(
                context, out=place / "out", states=place, callbacks=_NoCallbacks(), progress=silent
            )
            started = time.monotonic()
            fit(system.model_copy(update={"max_epochs": epochs}), subset, probe_context)
            seconds.append(time.monotonic() - started)
    epoch_seconds = max(seconds[1] - seconds[0], 1e-3) / share
    return min(system.max_epochs, max(1, math.floor(minutes * 60 / epoch_seconds)))


def _subset(examples: Examples, share: float) -> Examples:
    """Return a share of the examples, evenly spaced."""
    chosen = np.linspace(0, len(examples) - 1, max(2, round(share * len(examples)))).astype(int)
    return examples.subset(chosen, examples.targets[chosen])
