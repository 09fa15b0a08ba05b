"""What a network is trained on: feature rows and label vectors, batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ust.errors import UserError, listing
from ust.features import ORIGINAL, Features


@dataclass(frozen=True)
class Examples:
    """Rows of the feature files with their targets.

    Attributes
    ----------
    logmel, vggish : Features
        Open feature files.
    rows : numpy.ndarray [shape=(n,), int64]
        Indices into both.
    targets : numpy.ndarray [shape=(n, labels), float32]
    """

    logmel: Features
    vggish: Features
    rows: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def having(self, which: np.ndarray | slice, targets: np.ndarray) -> "Examples":
        """Some of them (indices or a mask), with other targets."""
        return Examples(self.logmel, self.vggish, self.rows[which], targets)

    def batches(
        self, size: int, *, order: np.ndarray | None = None, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Batches of log-mels, embeddings and targets, read from the files as they are needed."""
        order = np.arange(len(self)) if order is None else order
        for start, end in batch_bounds(len(order), size):
            chosen = order[start:end]
            arrays = self.logmel[self.rows[chosen]], self.vggish[self.rows[chosen]], self.targets[chosen]
            logmel, vggish, targets = (torch.from_numpy(array).to(device) for array in arrays)
            yield logmel, vggish, targets


def batch_bounds(n: int, size: int) -> list[tuple[int, int]]:
    """Where batches of n examples start and end; a last one of a single example joins the one before.

    Batch norm cannot train on one example.

    Examples
    --------
    >>> batch_bounds(7, 3)
    [(0, 3), (3, 7)]
    """
    starts = list(range(0, n, size))
    if len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], n], strict=True))


def select(
    split: str,
    labels: pd.DataFrame,
    columns: list[str],
    logmel: Features,
    vggish: Features,
    *,
    variants: bool,
) -> Examples:
    """The examples of a split.

    Parameters
    ----------
    split : str
    labels : pandas.DataFrame
        As `read_labels` gives them.
    columns : list of str
        Label columns that make the targets.
    logmel, vggish : Features
        Of the same rows.
    variants : bool
        Whether to take augmented variants too.

    Raises
    ------
    UserError
        If a clip has labels but no features, or a train clip features but no labels, or the split is empty.
        In other splits clips without labels are those that nobody has verified.
    """
    wanted = set(labels.index[labels["split"] == split])
    of_split = (logmel.split == split) & (variants | (logmel.variant == ORIGINAL))
    there = set(logmel.clip[of_split])
    rows = np.flatnonzero(of_split & np.isin(logmel.clip, sorted(wanted)))
    problems = [f"{clip} has labels but no features" for clip in sorted(wanted - there)]
    if split == "train":
        problems += [f"{clip} has features but no labels" for clip in sorted(there - wanted)]
    if problems:
        raise UserError(f"labels and features of the split '{split}' do not match:\n{listing(problems)}")
    if len(rows) == 0:
        raise UserError(f"the split '{split}' has no clips")
    targets = labels.loc[logmel.clip[rows], columns].to_numpy(np.float32)
    return Examples(logmel, vggish, rows, targets)
