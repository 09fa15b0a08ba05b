"""Clip embeddings as a table, for code that is not a network, such as label rules."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ust.features.feature import Feature
from ust.features.store import ORIGINAL, open_features
from ust.util.errors import UserError


def read_embeddings(folder: Path | None, feature: str) -> pd.DataFrame:
    """Read the embedding of each original clip as one row, indexed by clip.

    A feature with one embedding per frame is reduced to the mean and maximum over frames.

    Raises
    ------
    UserError
        If the file is missing, or the feature is a spectrogram.
    """
    from ust.features.registry import FEATURES  # imported here: takes seconds, and few label rules need it

    if feature not in FEATURES or not FEATURES[feature].is_embedding:
        raise UserError(f"the feature {feature} is not an embedding; {list_embeddings(FEATURES)}")
    if folder is None:
        raise UserError(f"this label rule needs the feature {feature}: give the folder of the stages extract")
    with open_features(folder / f"{feature}.h5", feature) as file:
        rows = np.flatnonzero(file.variant == ORIGINAL)
        values = [_mean_over_frames(file[rows[[i]]][0].astype(np.float32)) for i in range(len(rows))]
        return pd.DataFrame(np.stack(values), index=file.clip[rows].astype(str))


def list_embeddings(features: Mapping[str, Feature]) -> str:
    """List the features that are embeddings, for error messages."""
    return "embeddings are " + ", ".join(name for name, feature in features.items() if feature.is_embedding)


def _mean_over_frames(value: np.ndarray) -> np.ndarray:
    """Return the embedding of a clip; of frames, their mean and maximum side by side."""
    return value if value.ndim == 1 else np.concatenate([value.mean(axis=0), value.max(axis=0)])
