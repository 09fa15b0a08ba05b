"""Tagging recordings of any length with a trained system."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.audio.clips import CLIP_SECONDS
from ust.audio.recordings import BadAudio, fit_length
from ust.compute.accelerate import accelerate
from ust.features.feature import DESCRIPTION_FILE as FEATURE_FILE
from ust.features.feature import OnBatch
from ust.features.table import FEATURES
from ust.files.documents import read_json
from ust.files.errors import UserError
from ust.models.checkpoints import DESCRIPTION_FILE, load_system
from ust.models.systems import System

BATCH = 4  # windows
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Window:
    """A stretch of a recording and what is heard in it.

    Attributes
    ----------
    start, end : float
        Seconds.
    probabilities : numpy.ndarray [shape=(labels,), float32]
        Of all labels, coarse first.
    """

    start: float
    end: float
    probabilities: np.ndarray


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
        if read_json(place / FEATURE_FILE, made_by=f"weights@{name}").get("sha256") != wanted["sha256"]:
            raise UserError(f"{place}: not the {name} weights that the system was trained with")
        return cls(name, place, computed, feature.on_batch(place, computed, device))

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


class Tagger:
    """A trained system and what makes its features: samples in, probabilities out.

    Parameters
    ----------
    system : System
    front_ends : dict of str to FrontEnd
        By the names of the system's inputs.
    device : torch.device

    Attributes
    ----------
    taxonomy : Taxonomy
        The labels, in the order of the probabilities.
    """

    def __init__(
        self, system: System, front_ends: dict[str, FrontEnd], *, device: torch.device = CPU
    ) -> None:
        self.system, self.front_ends, self.device = system.to(device), front_ends, device
        self.taxonomy: Taxonomy = system.taxonomy

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        features: str | Path | None = None,
        threshold: float = 0.5,
        unselected: str = "keep",
        pooling: str = "mean",
        device: torch.device = CPU,
        fast: bool = True,
    ) -> "Tagger":
        """Read a trained system.

        Parameters
        ----------
        path : str or Path
            Folder of the stage train, of a flat system that of one checkpoint: ``models/cnn_vggish/coarse``.
        features : str or Path, optional
            Folder of the stages weights; by default the ``features`` beside the system's.
        threshold, unselected, pooling
            See `ust.models.checkpoints.load_system`.
        device : torch.device
        fast : bool
            Swap in the faster layers (`ust.compute.accelerate`).

        Raises
        ------
        UserError
            If a file is missing, damaged, or of other weights than the system was trained with.

        Examples
        --------
        >>> tagger = Tagger.load("models/cnn_vggish/coarse")  # doctest: +SKIP
        >>> dict(zip(tagger.taxonomy.labels, tagger.predict(samples, 44_100)))  # doctest: +SKIP
        """
        path = Path(path)
        system = load_system(path, threshold=threshold, unselected=unselected, pooling=pooling)
        try:
            wanted = {
                name: (each, system.about["features"][each]) for name, each in system.about["inputs"].items()
            }
            folder = Path(features) if features else _beside(path)
            front_ends = {
                name: FrontEnd.load(folder, feature, attributes, device)
                for name, (feature, attributes) in wanted.items()
            }
        except (KeyError, TypeError, AttributeError, ValueError):
            raise UserError(
                f"{path / DESCRIPTION_FILE}: does not say what its features are; run the stage train again"
            ) from None
        return cls(accelerate(system) if fast else system, front_ends, device=device)

    def predict(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Tag one clip.

        Parameters
        ----------
        samples : numpy.ndarray [shape=(n,) or (n, channels)]
            Full scale is ±1. Of more than ten seconds the first ten count; fewer are padded with silence.
        sample_rate : int
            Hz.

        Returns
        -------
        numpy.ndarray [shape=(labels,), float32]
            Probabilities in the order of `taxonomy.labels`.
        """
        return self._predict([np.asarray(samples, np.float32)], sample_rate)[0]

    def tag(self, path: str | Path, *, window: float = CLIP_SECONDS, hop: float = 5.0) -> Iterator[Window]:
        """Tag a recording of any length, window by window, with the memory of a few windows.

        Parameters
        ----------
        path : str or Path
            What libsndfile can read.
        window, hop : float
            Seconds a window lasts (at most ten, which is what systems are trained on) and from the start of
            one to that of the next.

        Raises
        ------
        BadAudio
            If the file is missing, not audio, empty, or has samples that are not finite.
        UserError
            If the window or the hop is out of range.
        """
        if not 0 < window <= CLIP_SECONDS:
            raise UserError(f"window is {window}, should be more than 0 and at most {CLIP_SECONDS} seconds")
        if not 0 < hop <= window:
            raise UserError(f"hop is {hop}, should be more than 0 and at most the window of {window} seconds")
        path = Path(path)
        if not path.is_file():
            raise BadAudio(f"{path}: no such file")
        try:
            with sf.SoundFile(path) as file:
                stretches = _stretches(file, path, window, hop)
                while batch := list(islice(stretches, BATCH)):
                    probabilities = self._predict([samples for *_, samples in batch], file.samplerate)
                    for (start, end, _), row in zip(batch, probabilities, strict=True):
                        yield Window(start, end, row)
        except (sf.LibsndfileError, OSError) as error:
            reason = " ".join(str(getattr(error, "error_string", error)).split())
            raise BadAudio(f"{path}: cannot be decoded as audio: {reason}") from None

    def features(self, clips: list[np.ndarray], sample_rate: int) -> dict[str, np.ndarray]:
        """What the stages extract make of mono clips of ten seconds, by the system's inputs."""
        return {name: make(clips, sample_rate) for name, make in self.front_ends.items()}

    def probabilities(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """The system's answers [shape=(clips, labels), float32] to what `features` gives."""
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(values).to(self.device) for name, values in features.items()}
            return self.system(**inputs).cpu().numpy()

    def _predict(self, clips: list[np.ndarray], sample_rate: int) -> np.ndarray:
        """Probabilities of several clips; nothing is heard in one whose samples are all 0."""
        monos = [clip.mean(axis=1) if clip.ndim == 2 else clip for clip in clips]
        monos = [fit_length(mono, sample_rate) for mono in monos]
        found = self.probabilities(self.features(monos, sample_rate))
        silent = [not mono.any() for mono in monos]
        found[silent] = 0
        return found


def _beside(path: Path) -> Path:
    """The folder of the features' weights beside a system's folder, or beside that of its checkpoint."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "features").is_dir():
            return folder / "features"
    return path.parent / "features"


def _stretches(
    file: sf.SoundFile, path: Path, window: float, hop: float
) -> Iterator[tuple[float, float, np.ndarray]]:
    """Start and end in seconds, and samples [shape=(n, channels)], of each window, to the end."""
    length, step = round(window * file.samplerate), max(1, round(hop * file.samplerate))
    start = 0
    while True:
        file.seek(start)
        samples = file.read(length, dtype="float32", always_2d=True)
        if len(samples) == 0 and start == 0:
            raise BadAudio(f"{path}: holds no samples")
        if len(samples) == 0:
            return
        if not np.isfinite(samples).all():
            raise BadAudio(f"{path}: has samples that are NaN or infinite")
        yield start / file.samplerate, (start + len(samples)) / file.samplerate, samples
        if start + length >= file.frames:
            return
        start += step
