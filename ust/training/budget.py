"""How many epochs go into so many minutes: of a training on a few of the clips, measured."""

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

PROBED = 128  # train clips; of validate the same share


class _Nobody:
    """Who is not told how it goes."""

    def on_epoch(self, node: str, epoch: Any) -> None:
        """Nothing."""

    def on_resume(self, node: str, epochs: list[Any]) -> None:
        """Nothing."""


def within(
    minutes: float,
    system: Any,
    data: TrainingData,
    context: TrainingContext,
    fit: Callable[[Any, TrainingData, TrainingContext], None],
) -> Any:
    """A system with as many epochs as its training does in so many minutes on this machine, at most its own.

    It is trained on a share of the clips twice, with one epoch and with two, which differ by an epoch of the
    share. What is done once, such as the fitting of a head, is not counted. The number is kept with what a
    training cut short goes on from.

    Parameters
    ----------
    minutes : float
    system : System
    data : Data
    work : Work
    fit : callable
        Of its recipe.

    Returns
    -------
    System
        With at least one epoch.
    """
    kept = context.states / "budget.json"
    if not kept.exists():
        write_json(kept, {"max_epochs": _measured(minutes, system, data, context, fit)})
    return system.model_copy(update=read_json(kept, made_by="train"))


def _measured(
    minutes: float,
    system: Any,
    data: TrainingData,
    context: TrainingContext,
    fit: Callable[[Any, TrainingData, TrainingContext], None],
) -> int:
    """The number of epochs."""
    share = min(1.0, PROBED / len(data.train))
    part = TrainingData(_some(data.train, share), _some(data.validate, share))
    seconds = []
    for epochs in (1, 2):
        with TemporaryDirectory() as scratch:
            place = Path(scratch)
            alone = replace(context, out=place / "out", states=place, listener=_Nobody(), progress=silent)
            started = time.monotonic()
            fit(system.model_copy(update={"max_epochs": epochs}), part, alone)
            seconds.append(time.monotonic() - started)
    of_an_epoch = max(seconds[1] - seconds[0], 1e-3) / share
    return min(system.max_epochs, max(1, math.floor(minutes * 60 / of_an_epoch)))


def _some(examples: Examples, share: float) -> Examples:
    """A share of examples, from all over them."""
    chosen = np.linspace(0, len(examples) - 1, max(2, round(share * len(examples)))).astype(int)
    return examples.subset(chosen, examples.targets[chosen])
