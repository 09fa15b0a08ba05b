"""Tagging recordings of any length with a trained system."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch

from ust.audio import BadAudio, fit_length
from ust.checkpoints import DESCRIPTION_FILE
from ust.clips import CLIP_SECONDS
from ust.embedding import EMBEDDING
from ust.errors import UserError
from ust.examples import Examples
from ust.logmel import logmel
from ust.resampling import resample
from ust.systems import System, load_system
from ust.taxonomy import Taxonomy
from ust.vggish import Embedder, examples
from ust.vggish_weights import load_description, load_weights

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


class Tagger:
    """A trained system and what makes its features: samples in, probabilities out.

    Parameters
    ----------
    system : System
        Its description says what its features are made of.
    embedder : Embedder or None
        VGGish; None for systems that need no embeddings.
    device : torch.device

    Attributes
    ----------
    taxonomy : Taxonomy
        The labels, in the order of the probabilities.
    logmel_settings : dict of str to int
        Arguments of `ust.logmel.logmel`.
    """

    def __init__(self, system: System, embedder: Embedder | None, *, device: torch.device = CPU) -> None:
        self.system, self.embedder, self.device = system, embedder, device
        labels = system.about["taxonomy"]
        self.taxonomy = Taxonomy(tuple(labels["coarse"]), tuple(labels["fine"]), tuple(labels["group"]))
        names = ("sample_rate", "n_fft", "hop_length", "n_mels")
        self.logmel_settings = {name: system.about["logmel"][name] for name in names}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        vggish: str | Path | None = None,
        threshold: float = 0.5,
        unselected: str = "keep",
        pooling: str = "mean",
        device: torch.device = CPU,
    ) -> "Tagger":
        """Read a trained system.

        Parameters
        ----------
        path : str or Path
            Folder of the stage train, of a flat system that of one checkpoint: ``models/cnn_vggish/coarse``.
        vggish : str or Path, optional
            Folder of the stage vggish_weights; by default the ``vggish`` beside the system's.
        threshold, unselected, pooling
            See `ust.systems.load_system`.
        device : torch.device

        Raises
        ------
        UserError
            If a file is missing, damaged, or of another VGGish than the system was trained with.

        Examples
        --------
        >>> tagger = Tagger.load("models/cnn_vggish/coarse")  # doctest: +SKIP
        >>> dict(zip(tagger.taxonomy.labels, tagger.predict(samples, 44_100)))  # doctest: +SKIP
        """
        path = Path(path)
        system = load_system(path, threshold=threshold, unselected=unselected, pooling=pooling)
        if "taxonomy" not in system.about or "logmel" not in system.about:
            raise UserError(
                f"{path / DESCRIPTION_FILE}: does not say what its features are; run the stage train again"
            )
        wanted: dict[str, Any] | None = system.about.get("vggish")
        if wanted is None:
            return cls(system, None, device=device)
        folder = Path(vggish) if vggish else _beside(path)
        if load_description(folder)["sha256"] != wanted["sha256"]:
            raise UserError(f"{folder}: not the VGGish weights that {path} was trained with")
        options = {"final_relu": wanted["final_relu"], "precision": wanted["precision"]}
        return cls(system, Embedder(load_weights(folder), device=device, **options), device=device)

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

    def features(self, clips: list[np.ndarray], sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
        """What the stages extract_logmel and extract_vggish make of mono clips of ten seconds.

        Returns
        -------
        logmel : numpy.ndarray [shape=(clips, bands, frames), float16]
        vggish : numpy.ndarray [shape=(clips, 10, 128), uint8]
            Zeros for a system that needs no embeddings.
        """
        settings = self.logmel_settings
        target = settings["sample_rate"]
        logmels = [logmel(resample(clip, sample_rate, target), **settings) for clip in clips]
        embeddings = np.zeros((len(clips), 10, EMBEDDING), np.uint8)
        if self.embedder is not None:
            patches = np.concatenate([examples(clip, sample_rate) for clip in clips])
            embeddings = self.embedder(patches).reshape(embeddings.shape)
        return np.stack(logmels).astype(np.float16), embeddings

    def probabilities(self, logmel: np.ndarray, vggish: np.ndarray) -> np.ndarray:
        """The system's answers [shape=(clips, labels), float32] to what `features` gives."""
        targets = np.zeros((len(logmel), len(self.taxonomy.labels)), np.float32)
        inputs = Examples(logmel, vggish, np.arange(len(logmel)), targets)
        return self.system.probabilities(inputs, self.taxonomy, batch_size=BATCH, device=self.device)

    def _predict(self, clips: list[np.ndarray], sample_rate: int) -> np.ndarray:
        """Probabilities of several clips; nothing is heard in one whose samples are all 0."""
        monos = [clip.mean(axis=1) if clip.ndim == 2 else clip for clip in clips]
        monos = [fit_length(mono, sample_rate) for mono in monos]
        found = self.probabilities(*self.features(monos, sample_rate))
        silent = [not mono.any() for mono in monos]
        found[silent] = 0
        return found


def _beside(path: Path) -> Path:
    """The VGGish folder beside a system's, or beside that of one of its checkpoints."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "vggish").is_dir():
            return folder / "vggish"
    raise UserError(f"{path.parent / 'vggish'}: no such folder; the stage vggish_weights makes it")


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
