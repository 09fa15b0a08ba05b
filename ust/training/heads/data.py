"""What a head is trained on: folds that keep sensors apart, and examples mixed with one another."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.files.errors import UserError
from ust.files.seeding import generator
from ust.models.examples import Examples
from ust.models.outputs import output_labels


def own_targets(system: Any, examples: Examples, taxonomy: Taxonomy) -> tuple[list[str], Examples]:
    """The labels that a system's network has outputs for, and examples with targets of these alone."""
    labels = output_labels(system.outputs, taxonomy)
    columns = [taxonomy.labels.index(label) for label in labels]
    return labels, examples.having(slice(None), examples.targets[:, columns])


def sensors_of(clips: Iterable[str]) -> np.ndarray:
    """The sensor that recorded each clip, which its name begins with: ``SENSOR_NUMBER.wav``."""
    return np.array([clip.split("_")[0] for clip in clips])


def folds(groups: np.ndarray, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices to train on and held out, so that each is held out once and no group is on both sides.

    Parameters
    ----------
    groups : numpy.ndarray [shape=(n,)]
    count : int
        Of folds.
    seed : int
        Of the order in which groups of equal size are dealt; the largest first, each to the smallest fold.

    Raises
    ------
    UserError
        If there are fewer groups than folds.
    """
    names, sizes = np.unique(groups, return_counts=True)
    if len(names) < count:
        raise UserError(
            f"the train clips are of {len(names)} sensor(s), too few for {count} folds; set folds lower"
        )
    order = generator(seed, "folds").permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled, fold_of = np.zeros(count, int), {}
    for index in order:
        fold_of[names[index]] = int(np.argmin(filled))
        filled[fold_of[names[index]]] += sizes[index]
    numbers = np.array([fold_of[group] for group in groups])
    for number in range(count):
        yield np.flatnonzero(numbers != number), np.flatnonzero(numbers == number)


def mixed(
    x: torch.Tensor, y: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup: each example with another, both features and targets, by a share from Beta(alpha, alpha).

    Parameters
    ----------
    x : torch.Tensor [shape=(batch, …)]
    y : torch.Tensor [shape=(batch, labels)]
    alpha : float
        0 leaves them as they are.
    rng : numpy.random.Generator

    References
    ----------
    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    if alpha == 0:
        return x, y
    share = torch.from_numpy(rng.beta(alpha, alpha, len(x))).to(x)
    other = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    of_x = share.view(-1, *[1] * (x.ndim - 1))
    return of_x * x + (1 - of_x) * x[other], share[:, None] * y + (1 - share[:, None]) * y[other]
