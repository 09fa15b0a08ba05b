"""What a feature is: how a clip becomes an array of a fixed shape."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ust.util.config import Section

FEATURE_FILE = "feature.json"
OnBatch = Callable[[np.ndarray], np.ndarray]


class FetchFile(Protocol):
    """Gives the place of a file that a feature's weights come from."""

    def __call__(self, source: str, *, checksum: str | None = None) -> Path:
        """Of an address, of which it is downloaded and checked, or of a path of params.yaml."""


@dataclass(frozen=True)
class Feature:
    """A row of `ust.features.registry.FEATURES`.

    Attributes
    ----------
    settings : type
        Its section of params.yaml.
    computed : type
        What of the settings a value depends on; stored with the values.
    dtype : str
        As stored: float16, float32 or uint8.
    shape : callable
        From what `computed` gives to the shape of a clip's value.
    of_clip : callable
        In a worker: from mono samples, their rate in Hz and what `computed` gives to the value, or, if there
        is a network, to what it takes.
    is_embedding : bool
        Whether a value is an embedding of the clip, or one of each of its frames; otherwise it is a
        spectrogram, which a network is needed for.
    packages : tuple of str
        Whose versions a value depends on.
    prepare : callable, optional
        Writes the weights of its network to a folder, given its settings and a `FetchFile`; what they are.
    on_batch : callable, optional
        From the folder of the weights, what `computed` gives and a device to a function, which takes what
        `of_clip` gives for several clips to their values. Its section then has ``batch_clips``.
    """

    settings: type[Section]
    computed: type[Section]
    dtype: str
    shape: Callable[[Any], tuple[int, ...]]
    of_clip: Callable[[np.ndarray, int, Any], np.ndarray]
    is_embedding: bool
    packages: tuple[str, ...]
    prepare: Callable[[Path, Any, FetchFile], dict[str, str]] | None = None
    on_batch: Callable[[Path, Any, Any], OnBatch] | None = None

    def of_settings(self, settings: Mapping[str, Any]) -> Any:
        """What a value depends on, of its section or of what was stored with values."""
        return self.computed(**{name: settings[name] for name in self.computed.model_fields})
