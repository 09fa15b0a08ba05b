"""What fine-tuning is after: the loss, and which examples it sees how often."""

import numpy as np
import torch
from torch.nn import functional


def loss(
    logits: torch.Tensor, targets: torch.Tensor, *, gamma: float = 0.0, smoothing: float = 0.0
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

    References
    ----------
    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; Szegedy et al., Rethinking the Inception
    Architecture for Computer Vision, CVPR 2016.
    """
    targets = targets * (1 - smoothing) + smoothing / 2
    terms = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if gamma:
        terms = terms * (torch.sigmoid(logits) - targets).abs() ** gamma
    return terms.mean()


def drawn(targets: np.ndarray, balance: float, rng: np.random.Generator) -> np.ndarray:
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
