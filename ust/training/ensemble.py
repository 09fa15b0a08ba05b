"""Ensembles: weighted averages of trained systems, with weights fitted on out-of-fold predictions."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.taxonomy import Taxonomy
from ust.evaluation.calibration import best_thresholds
from ust.evaluation.predictions import read_predictions, write_predictions
from ust.models.checkpoints import read_description, save_ensemble
from ust.training.cross_validation import OUT_OF_FOLD
from ust.util.config import Name, Section
from ust.util.errors import UserError
from ust.util.names import MODEL_FILE

SHARED_METADATA = ("taxonomy", "outputs")  # equal for all members, as are the attributes of shared features
OF_ANY_MEMBER = ("spatiotemporal_context",)  # an ensemble takes time and place if a member does
MIN_PROBABILITY = 1e-6  # probabilities are clipped to it, so that logarithms are finite


class EnsembleRow(Section):
    """A row of ``ensembles`` in params.yaml: two systems or ensembles, and the labels to fit weights to."""

    first: Name
    """A trained system with out-of-fold predictions, or a row of ``ensembles`` above."""
    second: Name
    """Another one."""
    labels: Name
    """Row of ``labels`` or ``relabel`` to which the weights are fitted."""


def build_ensemble(
    folders: Sequence[Path], labels: pd.DataFrame, taxonomy: Taxonomy, out: Path
) -> dict[str, Any]:
    """Copy systems into a folder and write their ensemble.

    For each level, the weights minimise the cross-entropy of the averaged out-of-fold predictions. Thresholds
    are chosen on that average, which is saved as the ensemble's out-of-fold predictions.
    """
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        raise UserError(f"an ensemble of {', '.join(names)}: name each once")
    metadata = _merge_metadata({folder: _read_metadata(folder) for folder in folders})
    clips = list(labels.index)
    predictions = np.stack([_read_out_of_fold(folder, clips, taxonomy) for folder in folders])
    targets = labels[list(taxonomy.labels)].to_numpy(np.float64)
    k = len(taxonomy.coarse)
    shares, averaged = {}, np.zeros_like(targets)
    for level, columns in (("coarse", slice(k)), ("fine", slice(k, None))):
        shares[level] = fit_weights(predictions[:, :, columns], targets[:, columns]).round(4).tolist()
        averaged[:, columns] = np.tensordot(shares[level], predictions[:, :, columns], 1)
    metadata["thresholds"] = best_thresholds(targets, averaged, list(taxonomy.labels))
    for folder, name in zip(folders, names, strict=True):
        shutil.copytree(folder, out / name, ignore=shutil.ignore_patterns(".*", OUT_OF_FOLD))
    write_predictions(out / OUT_OF_FOLD, clips, averaged, taxonomy)
    save_ensemble(out, names, shares, metadata)
    return shares


def fit_weights(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Fit the weights of an average, which sum to 1, by maximum likelihood.

    Returns
    -------
    numpy.ndarray [shape=(systems,)]

    References
    ----------
    van der Laan, Polley & Hubbard, Super Learner, 2007.
    """
    from scipy.optimize import minimize  # slow to import: half a second for every command

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        p = np.clip(np.tensordot(weights, predictions, 1), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        value = -np.mean(targets * np.log(p) + (1 - targets) * np.log1p(-p))
        return value, np.mean(predictions * ((1 - targets) / (1 - p) - targets / p), axis=(1, 2))

    count = len(predictions)
    if predictions.size == 0:  # a level without labels
        return np.full(count, 1 / count)
    weights = minimize(
        loss, np.full(count, 1 / count), jac=True, method="SLSQP", bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1}, options={"ftol": 1e-10},
    ).x.clip(0, 1)  # fmt: skip
    return weights / weights.sum()


def _read_metadata(folder: Path) -> dict[str, Any]:
    """Read the metadata of a system and check that it is complete."""
    metadata = read_description(folder).get("metadata")
    needed = ("versions", "taxonomy", "outputs", "architecture", "inputs", "features", "parameters")
    if not isinstance(metadata, dict) or not metadata.keys() >= set(needed):
        raise UserError(f"{folder / MODEL_FILE}: lacks metadata of the system; train it again")
    return metadata


def _merge_metadata(members: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """Merge the members' metadata to the ensemble's, and check that the members agree."""
    (first, metadata), *rest = members.items()
    features = dict(metadata["features"])
    for folder, member_metadata in rest:
        expected, actual = (
            {key: member[key] for key in SHARED_METADATA} for member in (metadata, member_metadata)
        )
        expected, actual = expected | features, actual | member_metadata["features"]
        if differ := [key for key in actual if expected.get(key, actual[key]) != actual[key]]:
            raise UserError(f"{folder}: was trained with another {differ[0]} than {first}; train both alike")
        features |= member_metadata["features"]
    all_metadata = members.values()
    common = ("versions", "taxonomy", "outputs", "data_source")
    merged = {key: metadata[key] for key in common if key in metadata} | {
        "architecture": "average of " + " and ".join(member["architecture"] for member in all_metadata),
        "inputs": {feature: feature for member in all_metadata for feature in member["inputs"].values()},
        "features": features,
        "parameters": sum(member["parameters"] for member in all_metadata),
        "converged": all(member.get("converged", False) for member in all_metadata),
    }
    for member in all_metadata:
        merged |= {key: member[key] for key in OF_ANY_MEMBER if key in member}
    return merged


def _read_out_of_fold(folder: Path, clips: list[str], taxonomy: Taxonomy) -> np.ndarray:
    """Read a system's out-of-fold predictions [shape=(clips, labels)]."""
    path = folder / OUT_OF_FOLD
    if not path.is_file():
        raise UserError(
            f"{folder}: keeps no out-of-fold predictions, by which an ensemble is weighted; train_head does, "
            "and train_finetune with folds"
        )
    return read_predictions(path, clips, taxonomy)[0][list(taxonomy.labels)].to_numpy(np.float64)
