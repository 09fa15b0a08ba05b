"""Tagging recordings of any length with a trained system."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.audio.clips import CLIP_SECONDS
from ust.audio.recordings import BadAudio, fit_length
from ust.compute.accelerate import accelerate
from ust.files.errors import UserError
from ust.models.checkpoints import DESCRIPTION_FILE, load_system
from ust.models.systems import System
from ust.tagging.features import CPU, FrontEnd

BATCH = 4  # windows


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
        return self._predict([np.asarray(samples, np.float32)], sample_rate)[0][0]

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
        check_range(window, hop)
        path = Path(path)
        if not path.is_file():
            raise BadAudio(f"{path}: no such file")
        with path.open("rb") as raw:
            yield from self.tag_file(raw, str(path), window=window, hop=hop)

    def tag_file(
        self,
        raw: BinaryIO,
        name: str,
        *,
        window: float = CLIP_SECONDS,
        hop: float = 5.0,
        start: float = 0.0,
        duration: float | None = None,
        features: bool = False,
    ) -> Iterator[Window]:
        """Tag what can be read from an open file, from a second on and for so many seconds; as `tag`.

        Parameters
        ----------
        raw : file object
            Open for reading bytes, and seekable.
        name : str
            Of the recording, for messages.
        window, hop : float
        start : float
            Seconds; where the first window begins.
        duration : float, optional
            Seconds; by default to the end.
        features : bool
            Whether the windows carry what the system was given.
        """
        check_range(window, hop)
        try:
            with sf.SoundFile(raw) as file:
                stretches = _stretches(file, name, window, hop, start, duration)
                while batch := list(islice(stretches, BATCH)):
                    rows, given = self._predict([samples for *_, samples in batch], file.samplerate)
                    for index, (begin, end, _) in enumerate(batch):
                        own = {name: values[index] for name, values in given.items()} if features else None
                        yield Window(begin, end, rows[index], own)
        except (sf.LibsndfileError, OSError) as error:
            reason = " ".join(str(getattr(error, "error_string", error)).split())
            raise BadAudio(f"{name}: cannot be decoded as audio: {reason}") from None

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


def _beside(path: Path) -> Path:
    """The folder of the features' weights beside a system's folder, or beside that of its checkpoint."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "features").is_dir():
            return folder / "features"
    return path.parent / "features"


def check_range(window: float, hop: float) -> None:
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


def _stretches(
    file: sf.SoundFile, name: str, window: float, hop: float, start: float, duration: float | None
) -> Iterator[tuple[float, float, np.ndarray]]:
    """Start and end in seconds, and samples [shape=(n, channels)], of each window, to the end."""
    rate = file.samplerate
    length, step = round(window * rate), max(1, round(hop * rate))
    first = place = round(start * rate)
    if file.frames == 0:
        raise BadAudio(f"{name}: holds no samples")
    if not 0 <= place < file.frames:
        raise BadAudio(f"{name}: has no second {start:g}, lasts {file.frames / rate:g} s")
    last = file.frames if duration is None else min(file.frames, place + round(duration * rate))
    while True:
        file.seek(place)
        samples = file.read(min(length, last - place), dtype="float32", always_2d=True)
        if len(samples) == 0 and place == first:
            raise BadAudio(f"{name}: holds no samples")
        if len(samples) == 0:
            return
        if not np.isfinite(samples).all():
            raise BadAudio(f"{name}: has samples that are NaN or infinite")
        yield place / rate, (place + len(samples)) / rate, samples
        if place + length >= last:
            return
        place += step
