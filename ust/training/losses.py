"""What fine-tuning is after: the loss, and which examples it sees how often."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from ust.annotations.taxonomy import Taxonomy, is_incomplete


def tagging_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    gamma: float = 0.0,
    smoothing: float = 0.0,
    unknown: Sequence[int] = (),
) -> torch.Tensor:
    """Mean binary cross-entropy to soft targets, focused on what is not yet right.

    Parameters
    ----------
    logits, targets : torch.Tensor [shape=(batch, labels)]
    gamma : float
        Each term counts by the distance of probability and target to this power: the focal loss. 0 is
        cross-entropy.
    smoothing : float
        Share of the targets that is one half: label smoothing.
    unknown : sequence of int
        Of `unknown_columns`: a term counts by how far its group's ``-X`` label is not there. By default all
        count.

    References
    ----------
    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; Szegedy et al., Rethinking the Inception
    Architecture for Computer Vision, CVPR 2016.
    """
    known = 1 - functional.pad(targets, (0, 1))[:, list(unknown)] if unknown else 1.0
    targets = targets * (1 - smoothing) + smoothing / 2
    terms = known * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if gamma:
        terms = terms * (torch.sigmoid(logits) - targets).abs() ** gamma
    return terms.mean()


def unknown_columns(labels: Sequence[str], taxonomy: Taxonomy) -> list[int]:
    """Of each label the column of its group's ``-X``, beside which it may be there unheard.

    It is -1 where there is none: of coarse labels, of an ``-X`` itself, in groups without one.
    """
    columns = []
    for label in labels:
        found = None
        if label in taxonomy.fine and not is_incomplete(label):
            found = taxonomy.incomplete(taxonomy.group[taxonomy.fine.index(label)])
        columns.append(-1 if found is None else list(labels).index(taxonomy.fine[found]))
    return columns


def sample_epoch(targets: np.ndarray, balance: float, rng: np.random.Generator) -> np.ndarray:
    """The examples of an epoch, in order.

    Parameters
    ----------
    targets : numpy.ndarray [shape=(n, labels)]
    balance : float
        0: each once. More: as many, drawn with replacement by (1 / share of the clips that have it) to this
        power of the rarest label that an example has more than not.
    rng : numpy.random.Generator
    """
    if balance == 0:
        return rng.permutation(len(targets))
    shares = np.maximum(targets.mean(axis=0, dtype=np.float64), 1 / len(targets))
    rarest = np.where(targets > 0.5, shares, 1.0).min(axis=1)
    weights = rarest**-balance
    return rng.choice(len(targets), len(targets), p=weights / weights.sum())
