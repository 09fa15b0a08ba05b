"""The interface of a feature: a fixed-shape array computed from each clip."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ust.util.config import Section

FEATURE_FILE = "feature.json"
OnBatch = Callable[[np.ndarray], np.ndarray]


class FetchFile(Protocol):
    """Download or locate a file of a feature's weights."""

    def __call__(self, source: str, *, checksum: str | None = None) -> Path:
        """Return the local path of a file, downloading URLs and checking `checksum`."""


@dataclass(frozen=True)
class Feature:
    """A feature, the entries of `ust.features.registry.FEATURES`.

    Attributes
    ----------
    settings : type
        The feature's section of params.yaml.
    extraction_config : type
        The settings that a value depends on; stored with the values.
    dtype : str
        Type as stored: float16, float32 or uint8.
    shape : callable
        Takes an extraction config and returns the shape of a clip's value.
    process_clip : callable
        Takes mono samples, their rate in Hz and an extraction config. Returns the clip's value or, if the
        feature has a network, the network's input. Runs in a worker process.
    is_embedding : bool
        Whether the value is an embedding of the clip, or one for each of its frames, rather than a
        spectrogram.
    packages : tuple of str
        Packages whose versions a value depends on.
    prepare : callable, optional
        Writes the network's weights to a folder, from the settings and a `FetchFile`. Returns their name and
        digest.
    on_batch : callable, optional
        Loads the network from the folder of its weights, an extraction config and a device. Returns a
        function from the stacked results of `process_clip` to the clips' values. The settings then have
        ``batch_clips``.
    """

    settings: type[Section]
    extraction_config: type[Section]
    dtype: str
    shape: Callable[[Any], tuple[int, ...]]
    process_clip: Callable[[np.ndarray, int, Any], np.ndarray]
    is_embedding: bool
    packages: tuple[str, ...]
    prepare: Callable[[Path, Any, FetchFile], dict[str, str]] | None = None
    on_batch: Callable[[Path, Any, Any], OnBatch] | None = None

    def config_from(self, settings: Mapping[str, Any]) -> Any:
        """Select the settings that a value depends on, from a section or from stored attributes."""
        return self.extraction_config(
            **{name: settings[name] for name in self.extraction_config.model_fields}
        )
