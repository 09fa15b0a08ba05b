"""Cross-validation on the train clips, with folds that keep sensors apart."""

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
from ust.training.context import TrainingContext
from ust.util.errors import UserError


def group_folds(groups: np.ndarray, folds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield train and held-out indices of each fold; no group is on both sides.

    The folds are those of scikit-learn's `GroupKFold`.

    Parameters
    ----------
    groups : numpy.ndarray [shape=(n,)]
        The group of each clip, such as its sensor_id.
    folds : int
        Number of folds.

    Raises
    ------
    UserError
        If there are fewer groups than folds.

    Examples
    --------
    >>> for train, held_out in group_folds(np.array(["a", "a", "b", "c"]), 2):
    ...     print(train, held_out)
    [2 3] [0 1]
    [0 1] [2 3]
    """
    from sklearn.model_selection import GroupKFold  # imported here: slow, and not needed by all trainers

    group_count = len(np.unique(groups))
    if group_count < folds:
        raise UserError(
            f"the train clips are of {group_count} sensor(s), too few for {folds} folds; set folds lower"
        )
    yield from GroupKFold(folds).split(groups, groups=groups)


OUT_OF_FOLD = "out_of_fold.csv"


def cross_val_predict(
    folds: int,
    examples: Examples,
    context: TrainingContext,
    train: Callable[[Examples, Examples, int], torch.nn.Module],
) -> np.ndarray:
    """Return out-of-fold predictions, grouped by sensor.

    Parameters
    ----------
    folds : int
        Number of folds.
    examples : Examples
        With targets of the network's outputs.
    context : TrainingContext
    train : callable
        Trains a network, given the other folds, the held-out fold and its number. The held-out fold may be
        used for early stopping.

    Returns
    -------
    numpy.ndarray [shape=(n, outputs)]
        Probabilities.
    """
    out_of_fold = np.zeros(examples.targets.shape, np.float32)
    for fold, indices in enumerate(group_folds(examples.groups, folds)):
        others, held_out = (examples.subset(each, examples.targets[each]) for each in indices)
        network = train(others, held_out, fold)
        out_of_fold[indices[1]] = predict_probabilities(network, held_out, context)
    return out_of_fold


def predict_probabilities(
    network: torch.nn.Module, examples: Examples, context: TrainingContext
) -> np.ndarray:
    """Return the network's probabilities [shape=(n, outputs)]."""
    return predict(CalibratedClassifier(network.eval(), []), examples, batch_size=64, device=context.device)


def fold_metadata(
    predictions: np.ndarray,
    examples: Examples,
    labels: list[str],
    context: TrainingContext,
    *,
    folds: int,
    calibrate: bool,
) -> dict[str, Any]:
    """Fit calibration and thresholds on out-of-fold predictions, for the network trained on all clips.

    The predictions of the original clips are written to ``out_of_fold.csv`` in the submission layout. Those
    of each fold are calibrated on the other folds.
    """
    columns = [context.taxonomy.labels.index(label) for label in labels]
    original = next(iter(examples.features.values())).variant[examples.rows] == ORIGINAL
    predictions, clips, targets = predictions[original], examples.clips[original], examples.targets[original]
    metadata: dict[str, Any] = {}
    if calibrate:
        uncalibrated, predictions = predictions, np.empty_like(predictions)
        metadata["calibration"] = fit_calibration(uncalibrated, targets[:, columns]).to_dict()
        for others, held_out in group_folds(examples.groups[original], folds):
            calibration = fit_calibration(uncalibrated[others], targets[others][:, columns])
            predictions[held_out] = calibration(uncalibrated[held_out])
    completed = complete_labels(torch.from_numpy(predictions), labels, context.taxonomy).numpy()
    write_predictions(context.out / OUT_OF_FOLD, list(clips), completed, context.taxonomy)
    metadata["thresholds"] = best_thresholds(targets, completed, list(context.taxonomy.labels))
    return metadata
