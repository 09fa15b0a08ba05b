"""Epochs by minutes: a clock that goes as a training does, and a training that is bounded."""

import numpy as np
import pytest
from tiny import CPU, Heard

from ust.models.examples import Examples
from ust.training import budget
from ust.training.work import TrainingContext, TrainingData


class System:
    def __init__(self, max_epochs):
        self.max_epochs = max_epochs

    def model_copy(self, update):
        return System(**update)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when somebody says so."""
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    return now


def work(taxonomy, tmp_path):
    return TrainingContext("a", taxonomy, CPU, tmp_path / "out", tmp_path, {}, None, Heard())


def examples(n):
    return Examples({}, np.arange(n), np.zeros((n, 3), np.float32))


@pytest.mark.parametrize(
    ("clips", "own", "minutes", "epochs"),
    [(1280, 300, 10, 20), (1280, 12, 10, 12), (1280, 300, 0.1, 1), (64, 3000, 1, 40)],
)
def test_as_many_epochs_as_go_into_the_minutes(taxonomy, tmp_path, clock, clips, own, minutes, epochs):
    """A head that takes a minute, then 20 ms a train clip and epoch, and 12.5 a validate clip."""
    data, tried = TrainingData(examples(clips), examples(clips // 4)), []

    def fit(system, part, place):
        assert place.out != tmp_path / "out"
        place.callbacks.on_epoch("", None)
        tried.append((system.max_epochs, len(part.train), part.train.rows.max()))
        clock[0] += 60 + system.max_epochs * (0.02 * len(part.train) + 0.0125 * len(part.validate))

    here = work(taxonomy, tmp_path)
    found = budget.within(minutes, System(own), data, here, fit)
    probed = min(clips, 128)
    assert tried == [(1, probed, clips - 1), (2, probed, clips - 1)]
    assert found.max_epochs == epochs
    assert not here.callbacks.epochs
    again = budget.within(minutes, System(own), data, here, None)  # of a training that goes on
    assert again.max_epochs == epochs
