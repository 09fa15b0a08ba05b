"""The windows that a long recording is tagged in."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.audio.recordings import CLIP_SECONDS, BadAudio, fit_length, read_windows
from ust.datasets.download import cache_folder
from ust.features.feature import FEATURE_FILE, OnBatch
from ust.features.registry import FEATURES
from ust.models.checkpoints import MODEL_FILE, load_system
from ust.models.systems import System
from ust.tagging.pretrained import is_packed, unpack
from ust.util.accelerate import accelerate
from ust.util.documents import read_json
from ust.util.errors import UserError


@dataclass(frozen=True)
class Window:
    """A stretch of a recording and what is heard in it.

    Attributes
    ----------
    start, end : float
        Seconds.
    probabilities : numpy.ndarray [shape=(labels,), float32]
        Of all labels, coarse first.
    features : dict of str to numpy.ndarray or None
        What the system was given, by its inputs, where that is asked for.
    """

    start: float
    end: float
    probabilities: np.ndarray
    features: dict[str, np.ndarray] | None = None


def check_window(window: float, hop: float) -> None:
    """Check that windows can be tagged and leave nothing out.

    Raises
    ------
    UserError
        If the window or the hop is out of range.
    """
    if not 0 < window <= CLIP_SECONDS:
        raise UserError(f"window is {window}, should be more than 0 and at most {CLIP_SECONDS} seconds")
    if not 0 < hop <= window:
        raise UserError(f"hop is {hop}, should be more than 0 and at most the window of {window} seconds")


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
        computed = feature.config_from(wanted)
        if feature.on_batch is None:
            return cls(name, place, computed, None)
        if read_json(place / FEATURE_FILE, made_by=f"weights@{name}").get("sha256") != wanted["sha256"]:
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
        values = np.stack([feature.process_clip(clip, sample_rate, self.computed) for clip in clips])
        return values if self.on_batch is None else self.on_batch(values)


BATCH = 4  # windows
log = logging.getLogger("ust")


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
        device: torch.device = CPU,
        fast: bool = True,
        **inference_options: Any,
    ) -> "Tagger":
        """Read a trained system.

        Parameters
        ----------
        path : str or Path
            Folder of the stage train, of a flat system that of one checkpoint: ``models/cnn_vggish/coarse``.
        features : str or Path, optional
            Folder of the stages weights; by default the ``features`` beside the system's.
        device : torch.device
        fast : bool
            Swap in the faster layers (`ust.util.accelerate`).
        **inference_options
            How its answers are read: ``threshold``, ``unselected``, ``pooling`` and
            ``coarse_at_least_fine`` of `ust.models.checkpoints.load_system`.

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
        system = load_system(path, **inference_options)
        try:
            wanted = {
                name: (each, system.metadata["features"][each])
                for name, each in system.metadata["inputs"].items()
            }
            folder = Path(features) if features else features_beside(path)
            front_ends = {
                name: FrontEnd.load(folder, feature, attributes, device)
                for name, (feature, attributes) in wanted.items()
            }
        except (KeyError, TypeError, AttributeError, ValueError):
            raise UserError(
                f"{path / MODEL_FILE}: does not say what its features are; run the stage train again"
            ) from None
        return cls(accelerate(system) if fast else system, front_ends, device=device)

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path, *, device: torch.device = CPU) -> "Tagger":
        """Read a system that ``ust export --format folder`` packed, every file checked by its digest.

        Neither DVC, TensorFlow nor the stages are needed.

        Parameters
        ----------
        path_or_name : str or Path
            The folder, or the name of one in ``models`` of the cache folder (``$UST_CACHE``).
        device : torch.device

        Raises
        ------
        UserError
            If there is none, or a file is missing or not what was packed.

        Examples
        --------
        >>> tagger = Tagger.from_pretrained("my-city/model")  # doctest: +SKIP
        >>> tagger("street.flac")  # doctest: +SKIP
        """
        named = cache_folder() / "models" / path_or_name
        folder = named if not is_packed(Path(path_or_name)) and is_packed(named) else Path(path_or_name)
        system, features, inference_options = unpack(folder)
        return cls.load(system, features=features, **inference_options, device=device)

    def __call__(self, path: str | Path, *, window: float = CLIP_SECONDS, hop: float = 5.0) -> pd.DataFrame:
        """Tag a recording: ``start, end`` in seconds, and probabilities of each label; see `tag`."""
        found = list(self.tag(path, window=window, hop=hop))
        table = pd.DataFrame(
            np.stack([each.probabilities for each in found]), columns=list(self.taxonomy.labels)
        )
        table.insert(0, "start", [each.start for each in found])
        table.insert(1, "end", [each.end for each in found])
        return table

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
        return self._predict([np.asarray(samples, np.float32)], sample_rate)[0][0]

    def tag(self, path: str | Path, *, window: float = CLIP_SECONDS, hop: float = 5.0) -> Iterator[Window]:
        """Tag a recording of any length, window by window, with the memory of a few windows.

        Parameters
        ----------
        path : str or Path
            What libsndfile can read; of an incomplete file what is there, with a warning in the log.
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
        yield from self.tag_file(Path(path), window=window, hop=hop)

    def tag_file(
        self,
        source: Path | BinaryIO,
        name: str | None = None,
        *,
        window: float = CLIP_SECONDS,
        hop: float = 5.0,
        start: float = 0.0,
        duration: float | None = None,
        features: bool = False,
        warn: Callable[[str], object] = log.warning,
    ) -> Iterator[Window]:
        """Tag a recording from a second on and for so many seconds; as `tag`.

        Parameters
        ----------
        source : Path or file object
            The latter open for reading bytes, and seekable.
        name : str, optional
            Of the recording, for messages; by default the path.
        window, hop : float
        start : float
            Seconds; where the first window begins.
        duration : float, optional
            Seconds; by default to the end.
        features : bool
            Whether the windows carry what the system was given.
        warn : callable
            Is told, at the end, if the file is incomplete.
        """
        check_window(window, hop)
        parts = read_windows(source, name, window=window, hop=hop, start=start, duration=duration, warn=warn)
        while batch := list(islice(parts, BATCH)):
            rows, given = self._predict([samples for _, _, samples, _ in batch], batch[0][-1])
            for index, (begin, end, *_) in enumerate(batch):
                own = {name: values[index] for name, values in given.items()} if features else None
                yield Window(begin, end, rows[index], own)

    def stream(
        self,
        blocks: Iterable[np.ndarray],
        sample_rate: int,
        *,
        window: float = CLIP_SECONDS,
        hop: float = 5.0,
    ) -> Iterator[Window]:
        """Tag sound as it comes, with the memory of a window and a block: the windows that `tag` would give.

        Parameters
        ----------
        blocks : iterable of numpy.ndarray [shape=(n,) or (n, channels)]
            One after the other, of any length; full scale is ±1.
        sample_rate : int
            Hz.
        window, hop : float
            See `tag`.

        Raises
        ------
        BadAudio
            If a sample is NaN or infinite.
        UserError
            If the window or the hop is out of range.
        """
        check_window(window, hop)
        length, step = round(window * sample_rate), max(1, round(hop * sample_rate))
        place, waiting, given = 0, np.zeros(0, np.float32), False

        def heard(samples: np.ndarray) -> Window:
            ((row,), _) = self._predict([samples], sample_rate)
            return Window(place / sample_rate, (place + len(samples)) / sample_rate, row)

        for block in blocks:
            mono = np.asarray(block, np.float32)
            mono = mono.mean(axis=1) if mono.ndim == 2 else mono
            if not np.isfinite(mono).all():
                raise BadAudio("the stream has samples that are NaN or infinite")
            waiting = np.concatenate([waiting, mono])
            while len(waiting) >= length:
                if not given:
                    yield heard(waiting[:length])
                given = len(waiting) == length  # another window begins only if more is to come
                if given:
                    break
                waiting, place = waiting[step:], place + step
        if len(waiting) and not given:
            yield heard(waiting)

    def features(self, clips: list[np.ndarray], sample_rate: int) -> dict[str, np.ndarray]:
        """What the stages extract make of mono clips of ten seconds, by the system's inputs."""
        return {name: make(clips, sample_rate) for name, make in self.front_ends.items()}

    def probabilities(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """The system's answers [shape=(clips, labels), float32] to what `features` gives."""
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(values).to(self.device) for name, values in features.items()}
            return self.system(**inputs).cpu().numpy()

    def _predict(self, clips: list[np.ndarray], sample_rate: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Probabilities of several clips, and their features; nothing is heard where all samples are 0."""
        monos = [clip.mean(axis=1) if clip.ndim == 2 else clip for clip in clips]
        monos = [fit_length(mono, sample_rate) for mono in monos]
        features = self.features(monos, sample_rate)
        found = self.probabilities(features)
        found[[not mono.any() for mono in monos]] = 0
        return found, features


def features_beside(path: Path) -> Path:
    """The folder of the features' weights beside a system's folder, or beside that of its checkpoint."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "features").is_dir():
            return folder / "features"
    return path.parent / "features"
