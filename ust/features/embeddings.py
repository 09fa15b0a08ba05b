"""Clip embeddings as a table, for code that is not a network, such as label rules."""

from pathlib import Path

import numpy as np
import pandas as pd

from ust.features.store import ORIGINAL, open_features
from ust.util.errors import UserError


def read_embeddings(path: Path) -> pd.DataFrame:
    """Read the embedding of each original clip as one row, indexed by clip.

    A feature with one embedding per frame is reduced to the mean and maximum over frames.
    """
    with open_features(path, path.stem) as file:
        if "network" not in file.attributes:
            raise UserError(f"{path}: is a spectrogram; this label rule needs an embedding")
        rows = np.flatnonzero(file.variant == ORIGINAL)
        values = [_mean_over_frames(file[rows[[i]]][0].astype(np.float32)) for i in range(len(rows))]
        return pd.DataFrame(np.stack(values), index=file.clip[rows].astype(str))


def _mean_over_frames(value: np.ndarray) -> np.ndarray:
    """Return the embedding of a clip; of frames, their mean and maximum side by side."""
    return value if value.ndim == 1 else np.concatenate([value.mean(axis=0), value.max(axis=0)])
