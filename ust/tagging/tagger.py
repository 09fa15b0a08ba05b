"""Inference with a trained system: from audio samples or recordings to probabilities."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.audio.recordings import CLIP_SECONDS, BadAudio, fit_length, read_recording, read_windows
from ust.features.context import CONTEXT, MISSING, Place, context_vector, select_audio_inputs
from ust.features.feature import NETWORK_FILE, Embed, Feature
from ust.features.registry import FEATURES
from ust.models.checkpoints import load_system, provenance_warning
from ust.models.systems import System
from ust.tagging.locate import locate
from ust.util.accelerate import accelerate
from ust.util.documents import read_json
from ust.util.errors import UserError
from ust.util.names import MODEL_FILE

CPU = torch.device("cpu")
BATCH = 4  # windows predicted together
log = logging.getLogger("ust")


@dataclass(frozen=True)
class Window:
    """A window of a recording and its predictions.

    Attributes
    ----------
    start, end : float
        Position in the recording, in seconds.
    probabilities : numpy.ndarray [shape=(labels,), float32]
        Probability of each label, in [0, 1]; coarse labels first, in taxonomy order.
    features : dict of str to numpy.ndarray, optional
        Features the system was given, by input name. None unless requested.
    """

    start: float
    end: float
    probabilities: np.ndarray
    features: dict[str, np.ndarray] | None = None


def check_window(window: float, hop: float) -> None:
    """Check that a system accepts the window and that the windows leave no gaps."""
    if not 0 < window <= CLIP_SECONDS:
        raise UserError(f"window is {window}, should be more than 0 and at most {CLIP_SECONDS} seconds")
    if not 0 < hop <= window:
        raise UserError(f"hop is {hop}, should be more than 0 and at most the window of {window} seconds")


@dataclass(frozen=True)
class FrontEnd:
    """Computes a feature as the stage extract does, for inference.

    Attributes
    ----------
    kind : str
        Kind of the feature, a key of `FEATURES`.
    folder : Path or None
        Folder of the network's weights; None for a spectrogram.
    config : Section
        Extraction settings, those that determine the values.
    embed : callable or None
        The network: from a batch of its inputs to embeddings. None for a spectrogram.
    """

    kind: str
    folder: Path | None
    config: Any
    embed: Embed | None

    @classmethod
    def load(cls, folder: Path, name: str, attributes: dict[str, Any], device: torch.device) -> "FrontEnd":
        """Load the front end that computed the training features of a system."""
        kind = attributes["kind"]
        if kind not in FEATURES:
            raise UserError(f"the system takes the feature {name}, whose kind {kind!r} is not here")
        feature = FEATURES[kind]
        config = feature.config_from(attributes)
        if feature.network is None:
            return cls(kind, None, config, None)
        weights = folder / feature.network
        description = read_json(weights / NETWORK_FILE, made_by=f"weights@{feature.network}")
        if description.get("sha256") != attributes["sha256"]:
            raise UserError(f"{weights}: not the {feature.network} weights that the system was trained with")
        return cls(kind, weights, config, feature.load(weights, config, device))

    @property
    def feature(self) -> Feature:
        """The entry of the kind in `FEATURES`."""
        return FEATURES[self.kind]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's feature."""
        return self.feature.shape(self.config)

    @property
    def dtype(self) -> str:
        """Data type in which the feature is stored."""
        return self.feature.dtype

    def in_float32(self) -> "FrontEnd":
        """Return this front end with its network in float32, whatever precision extraction used."""
        if getattr(self.config, "precision", "float32") == "float32":
            return self
        config = self.config.model_copy(update={"precision": "float32"})
        return replace(self, config=config, embed=self.feature.load(self.folder, config, CPU))

    def __call__(self, clips: list[np.ndarray], sample_rate: int) -> np.ndarray:
        """Return the feature [shape=(clips, …)] of mono ten-second clips, in its storage data type."""
        values = np.stack([self.feature.process_clip(clip, sample_rate, self.config) for clip in clips])
        return values if self.embed is None else self.embed(values)


class Tagger:
    """A trained system with its front ends: from audio samples to probabilities.

    Parameters
    ----------
    system : System
        The trained system.
    front_ends : dict of str to FrontEnd
        The front end for each input of the system, by input name.
    device : torch.device
        Device the system runs on.

    Attributes
    ----------
    taxonomy : Taxonomy
        The labels, in the order of the probabilities: `taxonomy.names` has them as users see them, own
        classes by their names alone, and `taxonomy.labels` with their numbers.
    thresholds : numpy.ndarray [shape=(labels,)]
        Probability from which each label counts as present: that which training stored, otherwise 0.5.
    warning : str or None
        A warning if the system was trained on synthetic sound or takes random weights.
    takes_context : bool
        Whether the system was trained with time and place. Others ignore them.
    """

    def __init__(
        self, system: System, front_ends: dict[str, FrontEnd], *, device: torch.device = CPU
    ) -> None:
        self.system, self.front_ends, self.device = system.to(device), front_ends, device
        self.taxonomy: Taxonomy = system.taxonomy
        stored = system.metadata.get("thresholds") or {}
        self.thresholds = np.array([stored.get(label, 0.5) for label in self.taxonomy.labels])
        self.warning = provenance_warning(system.metadata)
        self.takes_context = CONTEXT in system.metadata.get("inputs", {})

    @classmethod
    def load(
        cls,
        path_or_name: str | Path,
        *,
        networks: str | Path | None = None,
        checkpoint: str | Path | None = None,
        device: torch.device = CPU,
        fast: bool = True,
        **inference_options: Any,
    ) -> "Tagger":
        """Load a system.

        Parameters
        ----------
        path_or_name : str or Path
            One of these:

            - the folder of a system that the stage train wrote; flat networks have a folder for each
              checkpoint, such as ``models/cnn_vggish/coarse``;
            - a folder that ``ust export --format folder`` or ``ust train`` wrote, or its name below
              ``models`` in the cache (``$UST_CACHE``); the SHA-256 of every file is checked;
            - a project of ``ust init``; before it is trained, its classes are tagged by AudioSet's;
            - ``"audioset"``: SONYC-UST's labels by AudioSet's classes, without training. The weights are
              downloaded to the cache when they are first needed.
        networks : str or Path, optional
            Folder of the pretrained networks; by default the one that belongs to the system.
        checkpoint : str or Path, optional
            File with the published weights for ``"audioset"``, instead of downloading them.
        device : torch.device
            Device for the networks of the system and of its features.
        fast : bool
            Replace layers by faster equivalents (`ust.util.accelerate`).
        **inference_options
            Post-processing: ``threshold``, ``unselected``, ``pooling`` and ``coarse_at_least_fine`` of
            `ust.models.checkpoints.load_system`; by default those that were exported with the system.

        Raises
        ------
        UserError
            If there is no such system, a file is missing, damaged or differs from the exported one, or the
            feature weights are not those used in training.

        Examples
        --------
        >>> tagger = Tagger.load("audioset")  # doctest: +SKIP
        >>> tagger("street.wav")  # doctest: +SKIP
        >>> tagger = Tagger.load("models/cnn_vggish/coarse")  # doctest: +SKIP
        >>> dict(zip(tagger.taxonomy.names, tagger.predict(samples, 44_100)))  # doctest: +SKIP
        """
        path, own_networks, options = locate(path_or_name, checkpoint=checkpoint and Path(checkpoint))
        system = load_system(path, **options | inference_options)
        try:
            inputs = {
                name: (feature, system.metadata["features"][feature])
                for name, feature in select_audio_inputs(system.metadata["inputs"]).items()
            }
            folder = Path(networks) if networks else own_networks
            front_ends = {
                name: FrontEnd.load(folder, feature, attributes, device)
                for name, (feature, attributes) in inputs.items()
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"{path / MODEL_FILE}: does not describe the system's features; run the stage train again"
            ) from error
        return cls(accelerate(system) if fast else system, front_ends, device=device)

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path, **options: Any) -> "Tagger":
        """Load a system, under the name that other libraries use; the same as `load`."""
        return cls.load(path_or_name, **options)

    def __call__(self, path: str | Path, **options: Any) -> pd.DataFrame:
        """Tag a recording and return a table.

        Parameters
        ----------
        path : str or Path
            The recording, as for `tag`.
        **options
            Further arguments of `tag`: ``window``, ``hop``, ``time``, ``place``.

        Returns
        -------
        pandas.DataFrame
            A row for each window: ``start`` and ``end`` in seconds, then the probability of each label.
        """
        tagged = list(self.tag(path, **options))
        table = pd.DataFrame(
            np.stack([each.probabilities for each in tagged]), columns=list(self.taxonomy.names)
        )
        table.insert(0, "start", [each.start for each in tagged])
        table.insert(1, "end", [each.end for each in tagged])
        return table

    def predict(
        self,
        samples: np.ndarray,
        sample_rate: int,
        *,
        time: datetime | None = None,
        place: Place | None = None,
    ) -> np.ndarray:
        """Tag one clip.

        Parameters
        ----------
        samples : numpy.ndarray [shape=(n,) or (n, channels)]
            Samples, with full scale at ±1. Only the first ten seconds are used; shorter clips are padded with
            silence. Channels are averaged.
        sample_rate : int
            Samples per second.
        time : datetime, optional
            Local time of the clip, for a system that takes it.
        place : Place, optional
            Position of the sensor, for a system that takes it.

        Returns
        -------
        numpy.ndarray [shape=(labels,), float32]
            Probabilities in the order of `taxonomy.labels`; all 0 for digital silence.

        Examples
        --------
        >>> from datetime import datetime
        >>> from ust.features.context import Place
        >>> place = Place(latitude=40.73, longitude=-73.99, borough=1)
        >>> tagger.predict(samples, 44_100, time=datetime(2026, 7, 4, 15), place=place)  # doctest: +SKIP
        """
        contexts = self._context_vectors([0.0], time, place)
        return self._predict([np.asarray(samples, np.float32)], sample_rate, contexts)[0][0]

    def tag(
        self,
        path: str | Path,
        *,
        window: float = CLIP_SECONDS,
        hop: float = 5.0,
        time: datetime | None = None,
        place: Place | None = None,
    ) -> Iterator[Window]:
        """Tag a recording of any length, window by window, holding only a few windows in memory.

        Parameters
        ----------
        path : str or Path
            A file in a format that libsndfile reads. Of an incomplete file, the readable part is tagged and
            a warning is logged.
        window : float
            Duration of a window in seconds, at most the ten seconds systems are trained on.
        hop : float
            Seconds from the start of a window to the start of the next.
        time : datetime, optional
            Local time at the start of the recording, for a system that takes it.
        place : Place, optional
            Position of the sensor, for a system that takes it.

        Yields
        ------
        Window
            In the order of their starts.

        Raises
        ------
        BadAudio
            If the file is missing, not audio or empty, or has samples that are NaN or infinite.
        UserError
            If the window or the hop is out of range.
        """
        yield from self.tag_file(Path(path), window=window, hop=hop, time=time, place=place)

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
        time: datetime | None = None,
        place: Place | None = None,
    ) -> Iterator[Window]:
        """Tag a path or an open file, or a section of it; otherwise as `tag`.

        Parameters
        ----------
        source : Path or file object
            File objects are binary and seekable.
        name : str, optional
            Name of the recording in messages; by default its path.
        window, hop : float
            Duration of a window and distance between window starts, in seconds.
        start : float
            Start of the first window in the recording, in seconds.
        duration : float, optional
            Duration of the section in seconds; by default up to the end of the recording.
        features : bool
            Return the features in each `Window`, too.
        warn : callable
            Called with a message after the last window if the file is incomplete.
        time, place : optional
            As for `tag`.
        """
        check_window(window, hop)
        parts = read_windows(source, name, window=window, hop=hop, start=start, duration=duration, warn=warn)
        while batch := list(islice(parts, BATCH)):
            contexts = self._context_vectors([begin for begin, *_ in batch], time, place)
            samples = [each for _, _, each, _ in batch]
            probabilities, inputs = self._predict(samples, batch[0][-1], contexts)
            for index, (begin, end, *_) in enumerate(batch):
                own = {key: values[index] for key, values in inputs.items()} if features else None
                yield Window(begin, end, probabilities[index], own)

    def stream(
        self,
        blocks: Iterable[np.ndarray],
        sample_rate: int,
        *,
        window: float = CLIP_SECONDS,
        hop: float = 5.0,
        time: datetime | None = None,
        place: Place | None = None,
    ) -> Iterator[Window]:
        """Tag live sound, holding one window and one block in memory; yields the same windows as `tag`.

        Parameters
        ----------
        blocks : iterable of numpy.ndarray [shape=(n,) or (n, channels)]
            Consecutive blocks of samples, of any length, with full scale at ±1.
        sample_rate : int
            Samples per second.
        window, hop : float
            Duration of a window and distance between window starts, in seconds.
        time, place : optional
            As for `tag`.

        Yields
        ------
        Window
            As soon as its last sample has arrived.

        Raises
        ------
        BadAudio
            If a sample is NaN or infinite.
        UserError
            If the window or the hop is out of range.
        """
        check_window(window, hop)
        length, step = round(window * sample_rate), max(1, round(hop * sample_rate))
        position, buffer, emitted = 0, np.zeros(0, np.float32), False

        def predict(samples: np.ndarray) -> Window:
            contexts = self._context_vectors([position / sample_rate], time, place)
            ((probabilities,), _) = self._predict([samples], sample_rate, contexts)
            return Window(position / sample_rate, (position + len(samples)) / sample_rate, probabilities)

        for block in blocks:
            mono = np.asarray(block, np.float32)
            mono = mono.mean(axis=1) if mono.ndim == 2 else mono
            if not np.isfinite(mono).all():
                raise BadAudio("the stream has samples that are NaN or infinite")
            buffer = np.concatenate([buffer, mono])
            while len(buffer) >= length:
                if not emitted:
                    yield predict(buffer[:length])
                # As in `tag`, a further window begins only if samples follow the end of this one.
                emitted = len(buffer) == length
                if emitted:
                    break
                buffer, position = buffer[step:], position + step
        if len(buffer) and not emitted:
            yield predict(buffer)

    def features(self, clips: list[np.ndarray], sample_rate: int) -> dict[str, np.ndarray]:
        """Compute the features of clips, with the values that the stages extract would store.

        Parameters
        ----------
        clips : list of numpy.ndarray [shape=(n,), float32]
            Mono clips of ten seconds.
        sample_rate : int
            Samples per second.

        Returns
        -------
        dict of str to numpy.ndarray [shape=(clips, …)]
            By the name of the system's input.
        """
        return {name: front_end(clips, sample_rate) for name, front_end in self.front_ends.items()}

    def probabilities(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """Predict from features.

        Parameters
        ----------
        features : dict of str to numpy.ndarray [shape=(clips, …)]
            As `features` returns them. A system that takes time and place also accepts ``context``, vectors
            as `ust.features.context.context_vector` returns them; by default they are not known.

        Returns
        -------
        numpy.ndarray [shape=(clips, labels), float32]
            Probabilities in the order of `taxonomy.labels`.
        """
        if self.takes_context and CONTEXT not in features:
            count = len(next(iter(features.values())))
            features = features | {CONTEXT: np.tile(MISSING, (count, 1))}
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(values).to(self.device) for name, values in features.items()}
            return self.system(**inputs).cpu().numpy()

    def _context_vectors(
        self, starts: list[float], time: datetime | None, place: Place | None
    ) -> np.ndarray | None:
        """Return each window's vector of time and place, given its start in seconds; None if not used."""
        if not self.takes_context:
            return None
        times = [time and time + timedelta(seconds=start) for start in starts]
        return np.stack([context_vector(each, place) for each in times])

    def _predict(
        self, clips: list[np.ndarray], sample_rate: int, contexts: np.ndarray | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return probabilities and features of clips; the probabilities of digital silence are 0."""
        monos = [clip.mean(axis=1) if clip.ndim == 2 else clip for clip in clips]
        monos = [fit_length(mono, sample_rate) for mono in monos]
        features = self.features(monos, sample_rate)
        probabilities = self.probabilities(features if contexts is None else features | {CONTEXT: contexts})
        probabilities[[not mono.any() for mono in monos]] = 0
        return probabilities, features


WARM_UP = 2  # recordings tagged before the clock starts


def median_latency_ms(tagger: Tagger, recordings: list[Path]) -> float:
    """Return the median time in milliseconds from samples to probabilities, one recording at a time."""
    seconds = []
    for path in [*recordings[:WARM_UP], *recordings]:
        recording = read_recording(path)
        started = time.perf_counter()
        tagger.predict(recording.samples, recording.sample_rate)
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds[-len(recordings) :])
