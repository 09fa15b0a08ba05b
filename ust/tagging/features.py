"""What makes a feature of a clip, as a system was trained with it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ust.features.feature import DESCRIPTION_FILE, OnBatch
from ust.features.table import FEATURES
from ust.files.documents import read_json
from ust.files.errors import UserError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class FrontEnd:
    """What makes a feature of a clip.

    Attributes
    ----------
    name : str
        Of the feature.
    folder : Path
        Of its weights.
    computed : Section
        What of its settings a value depends on.
    on_batch : callable or None
        Its network.
    """

    name: str
    folder: Path
    computed: Any
    on_batch: OnBatch | None

    @classmethod
    def load(cls, folder: Path, name: str, wanted: dict[str, Any], device: torch.device) -> "FrontEnd":
        """The front end that a system's features were made by.

        Parameters
        ----------
        folder : Path
            Holds a folder for each feature's weights.
        name : str
        wanted : dict
            The attributes of the features that the system was trained with.
        device : torch.device

        Raises
        ------
        UserError
            If there is no such feature, or its weights are missing, damaged or others.
        """
        if name not in FEATURES:
            raise UserError(f"the system takes a feature {name!r}, which is not here")
        feature, place = FEATURES[name], folder / name
        computed = feature.of_settings(wanted)
        if feature.on_batch is None:
            return cls(name, place, computed, None)
        if read_json(place / DESCRIPTION_FILE, made_by=f"weights@{name}").get("sha256") != wanted["sha256"]:
            raise UserError(f"{place}: not the {name} weights that the system was trained with")
        return cls(name, place, computed, feature.on_batch(place, computed, device))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a clip's value."""
        return FEATURES[self.name].shape(self.computed)

    @property
    def dtype(self) -> str:
        """Of values as they are stored."""
        return FEATURES[self.name].dtype

    def precise(self) -> "FrontEnd":
        """The same with its network in float32, whatever the features were computed in."""
        if getattr(self.computed, "precision", "float32") == "float32":
            return self
        computed = self.computed.model_copy(update={"precision": "float32"})
        on_batch = FEATURES[self.name].on_batch
        return replace(self, computed=computed, on_batch=on_batch and on_batch(self.folder, computed, CPU))

    def __call__(self, clips: list[np.ndarray], sample_rate: int) -> np.ndarray:
        """The feature of mono clips of ten seconds [shape=(clips, …)], as it is stored."""
        feature = FEATURES[self.name]
        values = np.stack([feature.of_clip(clip, sample_rate, self.computed) for clip in clips])
        return values if self.on_batch is None else self.on_batch(values)
