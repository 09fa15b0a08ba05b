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


def group_folds(groups: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
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

    group_count = len(np.unique(groups))
    if group_count < count:
        raise UserError(
            f"the train clips are of {group_count} sensor(s), too few for {count} folds; set folds lower"
        )
    yield from GroupKFold(count).split(groups, groups=groups)


OUT_OF_FOLD = "out_of_fold.csv"


def cross_val_predict(
    system: Any,
    examples: Examples,
    context: TrainingContext,
    train: Callable[[Examples, Examples, int], torch.nn.Module],
) -> np.ndarray:
    """Predictions of each fold by a network that learnt from the others; sensors are on one side alone.

    Parameters
    ----------
    system : System
        With ``group_folds``.
    examples : Examples
        With targets of the network's outputs.
    work : Work
    train : callable
        Takes the other folds, this one, which it may stop by but not learn from, and its number.

    Returns
    -------
    numpy.ndarray [shape=(n, outputs)]
    """
    held_out = np.zeros(examples.targets.shape, np.float32)
    for number, (train_rows, held_rows) in enumerate(group_folds(examples.groups, system.folds)):
        others, this = (examples.subset(which, examples.targets[which]) for which in (train_rows, held_rows))
        held_out[held_rows] = predict_probabilities(train(others, this, number), this, context)
    return held_out


def predict_probabilities(
    network: torch.nn.Module, examples: Examples, context: TrainingContext
) -> np.ndarray:
    """Probabilities of the network's labels [shape=(n, outputs)]."""
    return predict(CalibratedClassifier(network.eval(), []), examples, batch_size=64, device=context.device)


def fold_metadata(
    predictions: np.ndarray, examples: Examples, labels: list[str], system: Any, context: TrainingContext
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
        With ``group_folds`` and ``calibrate``.
    work : Work
    """
    columns = [context.taxonomy.labels.index(label) for label in labels]
    original = next(iter(examples.features.values())).variant[examples.rows] == ORIGINAL
    clips, groups = examples.clips[original], examples.groups[original]
    predictions, targets = predictions[original], examples.targets[original]
    metadata: dict[str, Any] = {}
    if system.calibrate:
        metadata["calibration"] = fit_calibration(predictions, targets[:, columns]).to_dict()
        uncalibrated, predictions = predictions, predictions.copy()
        for rest, fold in group_folds(groups, system.folds):
            predictions[fold] = fit_calibration(uncalibrated[rest], targets[rest][:, columns])(
                uncalibrated[fold]
            )
    completed = complete_labels(torch.from_numpy(predictions), labels, context.taxonomy).numpy()
    write_predictions(context.out / OUT_OF_FOLD, list(clips), completed, context.taxonomy)
    metadata["thresholds"] = best_thresholds(targets, completed, list(context.taxonomy.labels))
    return metadata
