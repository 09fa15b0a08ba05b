"""What networks say of train clips whose sensors they have not heard, and what that says of a system."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ust.features.rows import ORIGINAL
from ust.models.examples import Examples, predict
from ust.models.outputs import complete
from ust.models.systems import Answers
from ust.scores.calibration import best_thresholds, fit_calibration
from ust.scores.predictions import write_predictions
from ust.training.held_out.folds import folds
from ust.training.work import Work

OUT_OF_FOLD = "out_of_fold.csv"


def cross_fit(
    system: Any, examples: Examples, work: Work, train: Callable[[Examples, Examples, int], torch.nn.Module]
) -> np.ndarray:
    """Predictions of each fold by a network that learnt from the others; sensors are on one side alone.

    Parameters
    ----------
    system : System
        With ``folds``.
    examples : Examples
        With targets of the network's outputs.
    work : Work
    train : callable
        Takes the other folds, this one, which it may stop by but not learn from, and its number.

    Returns
    -------
    numpy.ndarray [shape=(n, outputs)]
    """
    held = np.zeros(examples.targets.shape, np.float32)
    for number, (rest, fold) in enumerate(folds(examples.groups, system.folds)):
        others, this = (examples.having(which, examples.targets[which]) for which in (rest, fold))
        held[fold] = answers(train(others, this, number), this, work)
    return held


def answers(network: torch.nn.Module, examples: Examples, work: Work) -> np.ndarray:
    """Probabilities of the network's labels [shape=(n, outputs)]."""
    return predict(Answers(network.eval(), []), examples, batch_size=64, device=work.device)


def facts(held: np.ndarray, examples: Examples, labels: list[str], system: Any, work: Work) -> dict[str, Any]:
    """What out-of-fold predictions say of the network that learns from all: its calibration and thresholds.

    The predictions of the clips as they were recorded are written to ``out_of_fold.csv``, in the layout of a
    submission, each fold calibrated by the others.

    Parameters
    ----------
    held : numpy.ndarray [shape=(n, outputs)]
        Of `cross_fit`.
    examples : Examples
        With targets of all labels.
    labels : list of str
        Of the network's outputs.
    system : System
        With ``folds`` and ``calibrate``.
    work : Work
    """
    columns = [work.taxonomy.labels.index(label) for label in labels]
    original = next(iter(examples.features.values())).variant[examples.rows] == ORIGINAL
    clips, groups = examples.clips[original], examples.groups[original]
    held, targets = held[original], examples.targets[original]
    found: dict[str, Any] = {}
    if system.calibrate:
        found["calibration"] = fit_calibration(held, targets[:, columns]).as_lists()
        before, held = held, held.copy()
        for rest, fold in folds(groups, system.folds):
            held[fold] = fit_calibration(before[rest], targets[rest][:, columns])(before[fold])
    everything = complete(torch.from_numpy(held), labels, work.taxonomy).numpy()
    write_predictions(work.out / OUT_OF_FOLD, list(clips), everything, work.taxonomy)
    found["thresholds"] = best_thresholds(targets, everything, list(work.taxonomy.labels))
    return found
