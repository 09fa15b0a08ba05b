"""The interface of features, arrays of one shape computed from each clip, and of the networks they use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ust.util.config import Section

# Files in the folder of a network: its description and its weights.
NETWORK_FILE, WEIGHTS_FILE = "network.json", "weights.safetensors"
Embed = Callable[[np.ndarray], np.ndarray]


class FetchFile(Protocol):
    """Download or locate a file of a network's weights."""

    def __call__(self, source: str, *, checksum: str | None = None) -> Path:
        """Return the local path of a file, downloading URLs and checking `checksum`."""


@dataclass(frozen=True)
class Network:
    """A pretrained network, an entry of `ust.features.registry.NETWORKS`.

    Attributes
    ----------
    settings : type
        The network's section of params.yaml.
    prepare : callable
        Writes the weights to a folder, from the settings and a `FetchFile`. Returns the description of the
        network: ``weights`` (their name), ``sha256``, and the settings that embeddings depend on.
    """

    settings: type[Section]
    prepare: Callable[[Path, Any, FetchFile], dict[str, Any]]


@dataclass(frozen=True)
class Feature:
    """A kind of feature, an entry of `ust.features.registry.FEATURES`.

    Attributes
    ----------
    settings : type
        The parameters of a row of ``spectrograms`` or ``embeddings``, beside ``kind`` and ``network``.
    extraction_config : type
        The parameters that a value depends on, from the row and the network's description. They are stored
        with the values.
    dtype : str
        Type as stored: float16, float32 or uint8.
    shape : callable
        Takes an extraction config and returns the shape of a clip's value.
    process_clip : callable
        Takes mono samples, their rate in Hz and an extraction config. Returns the clip's value or, for an
        embedding, the network's input. Runs in a worker process.
    sources : tuple of str
        Files and folders, relative to the project, of the code that a value depends on, beside
        `ust.features.extraction.SOURCES`.
    packages : tuple of str
        Packages whose versions a value depends on.
    network : str, optional
        The key in `ust.features.registry.NETWORKS` of the network that computes the embedding.
    load : callable, optional
        Loads that network from its folder, an extraction config and a device. Returns a function from the
        stacked results of `process_clip` to the clips' values. The settings then have ``batch_clips``.
    """

    settings: type[Section]
    extraction_config: type[Section]
    dtype: str
    shape: Callable[[Any], tuple[int, ...]]
    process_clip: Callable[[np.ndarray, int, Any], np.ndarray]
    sources: tuple[str, ...]
    packages: tuple[str, ...]
    network: str | None = None
    load: Callable[[Path, Any, Any], Embed] | None = None

    @property
    def is_embedding(self) -> bool:
        """Whether a value is an embedding of the clip, or one for each of its frames, not a spectrogram."""
        return self.network is not None

    def config_from(self, settings: Mapping[str, Any]) -> Any:
        """Select the extraction config from a row and its network's description, or from attributes."""
        return self.extraction_config(
            **{name: settings[name] for name in self.extraction_config.model_fields}
        )
