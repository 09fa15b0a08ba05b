"""Losses, weights of labels, and class-balanced sampling."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from ust.annotations.taxonomy import Taxonomy, is_incomplete

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of logits and targets


def positive_weights(targets: np.ndarray, power: float) -> np.ndarray:
    """Return (negatives / positives) ** power for each label; 1 for a label that lacks either.

    Parameters
    ----------
    targets : numpy.ndarray [shape=(n, labels)]
        From 0 to 1; a soft label counts as that share of a positive.
    power : float
        The report's is 0.1; 0 gives equal weights.

    Returns
    -------
    numpy.ndarray [shape=(labels,)]

    Examples
    --------
    >>> positive_weights(np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), 1.0)
    array([3., 1.])
    """
    positive = targets.sum(axis=0, dtype=np.float64)
    negative = len(targets) - positive
    has_both = (positive > 0) & (negative > 0)
    ratio = np.divide(negative, positive, out=np.ones_like(positive), where=has_both)
    return ratio**power


def weighted_cross_entropy(targets: np.ndarray, power: float, device: torch.device) -> Loss:
    """Return the mean binary cross-entropy, with the positive terms weighted by `positive_weights`."""
    weights = torch.from_numpy(positive_weights(targets, power)).float().to(device)
    return partial(functional.binary_cross_entropy_with_logits, pos_weight=weights)


def tagging_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    gamma: float = 0.0,
    smoothing: float = 0.0,
    unknown: Sequence[int] = (),
) -> torch.Tensor:
    """Mean binary cross-entropy with soft targets, optionally focal, smoothed and masked.

    Parameters
    ----------
    logits, targets : torch.Tensor [shape=(batch, labels)]
    gamma : float
        Exponent of the focal factor, the distance of probability and target; 0 is plain cross-entropy.
    smoothing : float
        Label smoothing: the share of the target that is replaced by one half.
    unknown : sequence of int
        Result of `unknown_columns`: each term is weighted by 1 minus the target of its group's ``-X`` label.
        By default all terms have weight 1.

    References
    ----------
    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; Szegedy et al., Rethinking the Inception
    Architecture for Computer Vision, CVPR 2016.
    """
    # The padded column of zeros is what the index -1 selects: weight 1.
    known = 1 - functional.pad(targets, (0, 1))[:, list(unknown)] if unknown else 1.0
    targets = targets * (1 - smoothing) + smoothing / 2
    terms = known * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if gamma:
        terms = terms * (torch.sigmoid(logits) - targets).abs() ** gamma
    return terms.mean()


def masked_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over the targets that are not NaN [shape=(batch, labels)]; 0 without any."""
    known = ~torch.isnan(targets)
    if not known.any():
        return logits.sum() * 0
    return functional.binary_cross_entropy_with_logits(logits[known], targets[known])


def unknown_columns(labels: Sequence[str], taxonomy: Taxonomy) -> list[int]:
    """Return, for each label, the column of the ``-X`` label of its group, which leaves the label unknown.

    It is -1 for coarse labels, ``-X`` labels and groups without one.
    """
    columns = []
    for label in labels:
        incomplete = None
        if label in taxonomy.fine and not is_incomplete(label):
            incomplete = taxonomy.incomplete(taxonomy.group[taxonomy.fine.index(label)])
        columns.append(-1 if incomplete is None else list(labels).index(taxonomy.fine[incomplete]))
    return columns


def sample_epoch(targets: np.ndarray, balance: float, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of an epoch's examples, in order.

    They are drawn with replacement, in proportion to (1 / frequency of their rarest label) ** `balance`; a
    balance of 0 returns a permutation.
    """
    if balance == 0:
        return rng.permutation(len(targets))
    frequencies = np.maximum(targets.mean(axis=0, dtype=np.float64), 1 / len(targets))
    rarest = np.where(targets > 0.5, frequencies, 1.0).min(axis=1)
    weights = rarest**-balance
    return rng.choice(len(targets), len(targets), p=weights / weights.sum())
