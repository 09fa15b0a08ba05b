"""What a network on embeddings is trained on: targets of its own, and examples mixed with one another."""

from typing import Any

import numpy as np
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.models.examples import Examples
from ust.models.outputs import output_labels


def own_targets(system: Any, examples: Examples, taxonomy: Taxonomy) -> tuple[list[str], Examples]:
    """The labels that a system's network has outputs for, and examples with targets of these alone."""
    labels = output_labels(system.outputs, taxonomy)
    columns = [taxonomy.labels.index(label) for label in labels]
    return labels, examples.having(slice(None), examples.targets[:, columns])


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
