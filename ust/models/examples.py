"""Examples for training and prediction: feature rows with label vectors, in batches."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from ust.features.context import select_audio_inputs
from ust.features.store import ORIGINAL, Features
from ust.util.errors import UserError, bullet_list, shorten

Batch = dict[str, torch.Tensor]


class Batches:
    """Base class of examples that are read in batches.

    A subclass implements ``__len__`` and ``batch``, which returns the inputs by name and the targets of the
    examples at some indices, on a device.
    """

    def batches(
        self, size: int, *, order: np.ndarray | None = None, device: torch.device
    ) -> Iterator[tuple[Batch, torch.Tensor]]:
        """Yield batches of inputs and targets, read on demand."""
        order = np.arange(len(self)) if order is None else order
        for start, end in batch_bounds(len(order), size):
            yield self.batch(order[start:end], device)


@dataclass(frozen=True)
class TensorExamples(Batches):
    """Inputs and targets in memory."""

    inputs: Mapping[str, torch.Tensor]  # (n, …) by input of the network
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: np.ndarray, device: torch.device) -> tuple[Batch, torch.Tensor]:
        """Return the inputs and targets of the examples at `indices`."""
        rows = torch.from_numpy(indices).to(self.targets.device)
        return (
            {name: values[rows].to(device) for name, values in self.inputs.items()},
            self.targets[rows].to(device),
        )


@dataclass(frozen=True)
class Examples(Batches):
    """Rows of feature files with their targets.

    Attributes
    ----------
    features : mapping of str to Features
        Open feature files with the same rows, by input of the network.
    rows : numpy.ndarray [shape=(n,), int64]
        Row indices into each file.
    targets : numpy.ndarray [shape=(n, labels), float32]
        Label values from 0 to 1; NaN if not known, which only `ust.training.train_head` allows.
    sensors : mapping of str to str
        The sensor_id of each clip, needed for folds that keep sensors apart.
    """

    features: Mapping[str, Features]
    rows: np.ndarray
    targets: np.ndarray
    sensors: Mapping[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each input of a clip."""
        return {name: tuple(file.values.shape[1:]) for name, file in self.features.items()}

    @property
    def audio(self) -> "Examples":
        """The examples without time and place."""
        return replace(self, features=select_audio_inputs(self.features))

    @property
    def clips(self) -> np.ndarray:
        """The clip of each example."""
        return next(iter(self.features.values())).clip[self.rows]

    @property
    def groups(self) -> np.ndarray:
        """The sensor of each example.

        Raises
        ------
        UserError
            If the sensor of a clip is not known.
        """
        missing = sorted(set(self.clips) - set(self.sensors))
        if missing:
            raise UserError(
                f"{len(missing)} clip(s) have no sensor_id in the annotations, which folds keep apart: "
                f"{shorten(missing)}"
            )
        return np.array([self.sensors[clip] for clip in self.clips])

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, indices: np.ndarray | slice, targets: np.ndarray) -> "Examples":
        """Return the examples at `indices` (integers, a mask or a slice), with other targets."""
        return replace(self, rows=self.rows[indices], targets=targets)

    def batch(self, indices: np.ndarray, device: torch.device) -> tuple[Batch, torch.Tensor]:
        """Read the inputs and targets of the examples at `indices`."""
        rows = self.rows[indices]
        batch = {name: torch.from_numpy(file[rows]).to(device) for name, file in self.features.items()}
        return batch, torch.from_numpy(self.targets[indices]).to(device)


def batch_bounds(n: int, size: int, *, fewest: int = 2) -> list[tuple[int, int]]:
    """Return start and end of each batch; a last batch of fewer than `fewest` is merged into the one before.

    Batch norm cannot train on a single example.

    Examples
    --------
    >>> batch_bounds(7, 3)
    [(0, 3), (3, 7)]
    """
    starts = list(range(0, n, size))
    if len(starts) > 1 and n - starts[-1] < fewest:
        starts.pop()
    return list(zip(starts, [*starts[1:], n], strict=True))


def select_examples(
    split: str,
    labels: pd.DataFrame,
    columns: list[str],
    features: Mapping[str, Features],
    *,
    variants: bool,
    sensors: Mapping[str, str] | None = None,
) -> Examples:
    """Select the examples of a split."""
    keys = next(iter(features.values()))
    with_labels = set(labels.index[labels["split"] == split])
    in_split = (keys.split == split) & (variants | (keys.variant == ORIGINAL))
    with_features = set(keys.clip[in_split])
    rows = np.flatnonzero(in_split & np.isin(keys.clip, sorted(with_labels)))
    problems = [f"{clip} has labels but no features" for clip in sorted(with_labels - with_features)]
    if split == "train":
        problems += [f"{clip} has features but no labels" for clip in sorted(with_features - with_labels)]
    if problems:
        raise UserError(f"labels and features of the split '{split}' do not match:\n{bullet_list(problems)}")
    if len(rows) == 0:
        raise UserError(f"the split '{split}' has no clips")
    targets = labels.loc[keys.clip[rows], columns].to_numpy(np.float32)
    return Examples(features, rows, targets, sensors or {})


def predict(
    module: Callable[..., torch.Tensor], examples: Batches, *, batch_size: int, device: torch.device
) -> np.ndarray:
    """Return the module's outputs for all examples [shape=(n, …)], in their order."""
    with torch.inference_mode():
        batches = [module(**batch).cpu().numpy() for batch, _ in examples.batches(batch_size, device=device)]
    return np.concatenate(batches)
