"""One embedding of each clip, for whoever is not a network."""

from pathlib import Path

import numpy as np
import pandas as pd

from ust.features.rows import ORIGINAL
from ust.features.store import open_features
from ust.files.errors import UserError


def read_embeddings(folder: Path | None, feature: str) -> pd.DataFrame:
    """What a feature file has of each clip as it was recorded, by clip: a row of values each.

    Of a feature with several embeddings a clip, as of its frames, they are the mean and the maximum.

    Raises
    ------
    UserError
        If there is no such file, or the feature is an image, not embeddings.
    """
    if folder is None:
        raise UserError(
            f"a rule that listens needs the feature {feature}: give the folder of the stages extract"
        )
    with open_features(folder / f"{feature}.h5", feature) as file:
        rows = np.flatnonzero(file.variant == ORIGINAL)
        values = [_pooled(file[rows[[i]]][0].astype(np.float32), feature) for i in range(len(rows))]
        return pd.DataFrame(np.stack(values), index=file.clip[rows].astype(str))


def _pooled(value: np.ndarray, feature: str) -> np.ndarray:
    if value.ndim > 2 or feature == "logmel":
        raise UserError(f"the feature {feature} is {' × '.join(map(str, value.shape))} a clip, no embedding")
    return value if value.ndim == 1 else np.concatenate([value.mean(axis=0), value.max(axis=0)])
