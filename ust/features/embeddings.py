"""One embedding of each clip, for whoever is not a network."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ust.features.feature import Feature
from ust.features.store import ORIGINAL, open_features
from ust.util.errors import UserError


def read_embeddings(folder: Path | None, feature: str) -> pd.DataFrame:
    """Read the embedding of each clip as it was recorded, by clip: a row of values each.

    Of a feature with several embeddings a clip, as of its frames, they are the mean and the maximum.

    Raises
    ------
    UserError
        If there is no such file, or the feature is a spectrogram, not embeddings.
    """
    from ust.features.registry import FEATURES  # here: it takes seconds, and few label rules need it

    if feature not in FEATURES or not FEATURES[feature].is_embedding:
        raise UserError(f"the feature {feature} is no embedding; {embeddings_are(FEATURES)}")
    if folder is None:
        raise UserError(
            f"a rule that listens needs the feature {feature}: give the folder of the stages extract"
        )
    with open_features(folder / f"{feature}.h5", feature) as file:
        rows = np.flatnonzero(file.variant == ORIGINAL)
        values = [_mean_over_frames(file[rows[[i]]][0].astype(np.float32)) for i in range(len(rows))]
        return pd.DataFrame(np.stack(values), index=file.clip[rows].astype(str))


def embeddings_are(features: Mapping[str, Feature]) -> str:
    """Say which of the features are embeddings."""
    return "embeddings are " + ", ".join(name for name, each in features.items() if each.is_embedding)


def _mean_over_frames(value: np.ndarray) -> np.ndarray:
    return value if value.ndim == 1 else np.concatenate([value.mean(axis=0), value.max(axis=0)])
