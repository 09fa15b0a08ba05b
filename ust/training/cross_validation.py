"""Folds of the train clips that keep sensors apart."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ust.evaluation.calibration import best_thresholds, fit_calibration
from ust.evaluation.predictions import write_predictions
from ust.features.store import ORIGINAL
from ust.models.examples import Examples, predict
from ust.models.outputs import complete_labels
from ust.models.systems import CalibratedClassifier
from ust.training.work import TrainingContext
from ust.util.errors import UserError


def folds(groups: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices to train on and held out, so that each is held out once and no group is on both sides.

    They are scikit-learn's `GroupKFold`: the largest group first, each to the smallest fold.

    Parameters
    ----------
    groups : numpy.ndarray [shape=(n,)]
        Of each clip, such as its sensor_id.
    count : int
        Of folds.

    Raises
    ------
    UserError
        If there are fewer groups than folds.

    Examples
    --------
    >>> for rest, held in folds(np.array(["a", "a", "b", "c"]), 2):
    ...     print(rest, held)
    [2 3] [0 1]
    [0 1] [2 3]
    """
    from sklearn.model_selection import GroupKFold  # here: it takes a second, and only some recipes need it

    found = len(np.unique(groups))
    if found < count:
        raise UserError(
            f"the train clips are of {found} sensor(s), too few for {count} folds; set folds lower"
        )
    yield from GroupKFold(count).split(groups, groups=groups)


OUT_OF_FOLD = "out_of_fold.csv"


def cross_val_predict(
    system: Any,
    examples: Examples,
    work: TrainingContext,
    train: Callable[[Examples, Examples, int], torch.nn.Module],
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
        others, this = (examples.subset(which, examples.targets[which]) for which in (rest, fold))
        held[fold] = predict_probabilities(train(others, this, number), this, work)
    return held


def predict_probabilities(network: torch.nn.Module, examples: Examples, work: TrainingContext) -> np.ndarray:
    """Probabilities of the network's labels [shape=(n, outputs)]."""
    return predict(CalibratedClassifier(network.eval(), []), examples, batch_size=64, device=work.device)


def fold_metadata(
    held: np.ndarray, examples: Examples, labels: list[str], system: Any, work: TrainingContext
) -> dict[str, Any]:
    """What out-of-fold predictions say of the network that learns from all: its calibration and thresholds.

    The predictions of the clips as they were recorded are written to ``out_of_fold.csv``, in the layout of a
    submission, each fold calibrated by the others.

    Parameters
    ----------
    held : numpy.ndarray [shape=(n, outputs)]
        Of `cross_val_predict`.
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
    everything = complete_labels(torch.from_numpy(held), labels, work.taxonomy).numpy()
    write_predictions(work.out / OUT_OF_FOLD, list(clips), everything, work.taxonomy)
    found["thresholds"] = best_thresholds(targets, everything, list(work.taxonomy.labels))
    return found
