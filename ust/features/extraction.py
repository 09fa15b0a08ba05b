"""Feature values that need not be computed again, by the digest of what they come from."""

import io
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config
from threadpoolctl import threadpool_limits

from ust.audio.recordings import BadAudio, fit_length, read_recording
from ust.features.feature import FEATURE_FILE, Feature, OnBatch
from ust.features.registry import FEATURES
from ust.features.store import CONTENT, DAMAGED, Row, find_rows, open_hdf5, write_features
from ust.util.digests import ROOT, digest, file_digest, source_digest, versions
from ust.util.documents import read_json
from ust.util.errors import UserError, bullet_list
from ust.util.files import atomic_write, lock_folder
from ust.util.progress import Progress, silent


class FeatureCache:
    """Values in a feature file as it stands, and those kept by a run that did not come to its end.

    Parameters
    ----------
    path : Path
        The feature file; may be missing, damaged or of another method.
    name : str
        Of its data set.
    shape, dtype
        Of a value.

    Attributes
    ----------
    parts : Path
        Folder of what was kept, beside the feature file.
    """

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, np.dtype(dtype)
        self.parts = path.with_name(f".{path.name}.parts")
        self._file: h5py.File | None = None
        self._rows: dict[str, int] = {}
        try:
            self._file = open_hdf5(path)
            self._rows = {content: i for i, content in enumerate(self._file[CONTENT].asstr()[:])}
        except DAMAGED:
            pass  # nothing to be had from it

    def close(self) -> None:
        """Close the feature file."""
        if self._file is not None:
            self._file.close()

    def __contains__(self, content: str) -> bool:
        if self._part(content).is_file():
            return self._load_part(content) is not None
        return content in self._rows and self._load_row(content) is not None

    def __getitem__(self, content: str) -> np.ndarray:
        """The value of a content that is there.

        Raises
        ------
        UserError
            If it has gone meanwhile.
        """
        value = self._load_part(content)
        if value is None:
            value = self._load_row(content)
        if value is None:
            raise UserError(f"{self.parts}: values computed a moment ago are gone; run the stage again")
        return value

    def keep(self, content: str, value: np.ndarray) -> None:
        """Put a value where a later run finds it."""
        buffer = io.BytesIO()  # NumPy does not say why it cannot write to a file
        np.save(buffer, value.astype(self.dtype, copy=False), allow_pickle=False)
        with atomic_write(self._part(content)) as partial:
            partial.write_bytes(buffer.getbuffer())

    def discard_parts(self) -> None:
        """Remove what `keep` kept."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def leave(self) -> None:
        """Leave what `keep` kept to a later run; nothing at all if it kept nothing."""
        with suppress(OSError):
            self.parts.rmdir()

    def _part(self, content: str) -> Path:
        return self.parts / f"{content}.npy"

    def _load_part(self, content: str) -> np.ndarray | None:
        try:
            return self._fitting(np.load(self._part(content), allow_pickle=False))
        except (OSError, ValueError, EOFError):
            return None

    def _load_row(self, content: str) -> np.ndarray | None:
        try:
            return self._fitting(self._file[self.name][self._rows[content]])
        except DAMAGED:
            return None

    def _fitting(self, value: np.ndarray) -> np.ndarray | None:
        return value if (value.shape, value.dtype) == (self.shape, self.dtype) else None


BATCH, CHUNK = 4, 64  # clips a task, clips in memory
# The source that every value depends on, beside its feature's own.
SOURCES = (
    "ust/features/extraction.py", "ust/features/feature.py", "ust/features/mel.py", "ust/audio/containers.py",
    "ust/audio/recordings.py", "ust/audio/resampling.py", "ust/util/accelerate.py", "ust/util/device.py",
    "ust/util/fast_layers.py", "ust/util/seeding.py", "ust/util/winograd.py",
)  # fmt: skip

log = logging.getLogger("ust")
Results = Iterable[tuple[Row, np.ndarray]]


def extract(
    path: Path,
    name: str,
    feature: Feature,
    rows: list[Row],
    settings: Mapping[str, Any],
    *,
    provenance: Mapping[str, str] | None = None,
    on_batch: OnBatch | None = None,
    conditions: Mapping[str, Any] | None = None,
    share: tuple[int, int] | None = None,
    progress: Progress = silent,
) -> tuple[int, ...]:
    """Write a feature file; compute only what is not in the one there now, nor kept by a run cut short.

    Parameters
    ----------
    path : Path
    name : str
        Of the feature, and of the data set in the file.
    feature : Feature
    rows : list of Row
        Sorted.
    settings : mapping
        The feature's section.
    provenance : mapping, optional
        What its weights are.
    on_batch : callable, optional
        Its network, if it has one.
    conditions : mapping, optional
        What else the last bits of a network's answers depend on, such as the number of threads.
    share : (int, int), optional
        Which of how many shares to compute, from (1, n) on, in this process alone, and keep for the run
        without a share that writes the file. Shares may be computed at the same time.
    progress : Progress

    Returns
    -------
    tuple of int
        The shape of a value.

    Raises
    ------
    UserError
        Listing every file that could not be read; what was computed before is kept for the next run.
    """
    computed = feature.of_settings(settings)
    shape = feature.shape(computed)
    attributes = {**(provenance or {}), **computed.model_dump(), "versions": versions(*feature.packages)}
    method = digest(
        source_digest(*SOURCES, feature_source(feature)),
        json.dumps(attributes | dict(conditions or {}), sort_keys=True),
    )
    if share is not None:
        rows = rows[share[0] - 1 :: share[1]]
    contents = [digest(method, feature.dtype, str(shape), _content(row.path)) for row in rows]
    with (
        closing(FeatureCache(path, name, shape, feature.dtype)) as finished,
        lock_folder(finished.parts) if share is None else nullcontext(),
    ):
        # Equal clips have equal values; one of them is enough.
        first_of = dict(zip(reversed(contents), reversed(rows), strict=True))
        content_of = {row: content for content, row in first_of.items() if content not in finished}
        if len(content_of) < len(first_of):
            log.info("%s: %d of %d clips are done", path, len(first_of) - len(content_of), len(first_of))
        make = _results if share is None else _alone
        results: Results = in_workers(feature, computed, sorted(content_of), name, progress, make)
        if on_batch is not None:
            results = in_batches(results, on_batch, settings["batch_clips"])
        try:
            for row, value in results:
                finished.keep(content_of[row], value)
        except BaseException:
            finished.leave()
            raise
        if share is not None:
            return shape
        values = (finished[content] for content in contents)
        write_features(
            path, name, rows, contents, values, shape=shape, dtype=feature.dtype, attributes=attributes
        )
        finished.discard_parts()
    return shape


def feature_source(feature: Feature) -> str:
    """Return the file of a feature, or its folder where it has several, relative to the package's parent."""
    file = Path(str(sys.modules[feature.of_clip.__module__].__file__)).relative_to(ROOT)
    return (file if file.parent.name == "features" else file.parent).as_posix()


def in_workers(
    feature: Feature,
    computed: Any,
    rows: list[Row],
    description: str,
    progress: Progress,
    make: Callable[[Callable, Any, list[Row]], Iterator[np.ndarray | str]],
) -> Iterator[tuple[Row, np.ndarray]]:
    """Yield each row with what the feature makes of its clip, in order, as `make` has it computed.

    Raises
    ------
    UserError
        After the last row, listing every file that could not be read.
    """
    bad = []
    results = progress(make(feature.of_clip, computed, rows), total=len(rows), description=description)
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, str):
            bad.append(result)
        else:
            yield row, result
    if bad:
        raise UserError(f"{len(bad)} of {len(rows)} audio files cannot be used:\n{bullet_list(bad)}")


def in_batches(results: Results, on_batch: OnBatch, clips: int) -> Iterator[tuple[Row, np.ndarray]]:
    """Let a network answer for several clips at a time; yield each clip's row and value.

    A last batch is filled up with zeros: how a sum is taken depends on the batch's size, and so a clip's
    value must not depend on how many others are computed with it.
    """
    results = iter(results)
    while batch := list(islice(results, clips)):
        rows, values = zip(*batch, strict=True)
        empty = [np.zeros_like(values[0])] * (clips - len(values))
        yield from zip(rows, on_batch(np.stack([*values, *empty])), strict=False)


def _results(of_clip: Callable, computed: Any, rows: list[Row]) -> Iterator[np.ndarray | str]:
    # joblib computes ahead of a slow reader without limit; a chunk at a time, no more than that is kept.
    # One thread each, and never this process: how a sum is split must not depend on the number of workers.
    with (
        parallel_config(backend="loky", inner_max_num_threads=1),
        Parallel(n_jobs=max(2, cpu_count()), return_as="generator", batch_size=BATCH) as pool,
    ):
        for start in range(0, len(rows), CHUNK):
            yield from pool(
                delayed(_or_reason)(of_clip, row, computed) for row in rows[start : start + CHUNK]
            )


def _alone(of_clip: Callable, computed: Any, rows: list[Row]) -> Iterator[np.ndarray | str]:
    """The same in this process: a worker of a cluster cannot have workers of its own."""
    for row in rows:
        with threadpool_limits(1):
            result = _or_reason(of_clip, row, computed)
        yield result


def _or_reason(of_clip: Callable, row: Row, computed: Any) -> np.ndarray | str:
    try:
        recording = read_recording(row.path)
    except BadAudio as error:
        return str(error)
    mono = fit_length(recording.samples, recording.sample_rate)
    return of_clip(mono, recording.sample_rate, computed)


def _content(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return f"unreadable: {path}"  # computing it will say why


@dataclass(frozen=True)
class Extraction:
    """What is extracted from what.

    Attributes
    ----------
    name : str
        Of the feature.
    settings : dict
        Its section of params.yaml.
    audio, augmented, weights, out : Path
        As the stage extract takes them.
    threads : int
        Of the feature's network.
    device : str
        See `ust.util.device.prepare`.
    rows : tuple of Row or None
        What it is extracted of, where that is not all in the folders.
    """

    name: str
    settings: dict[str, Any]
    audio: Path
    augmented: Path
    weights: Path
    out: Path
    threads: int
    device: str
    rows: tuple[Row, ...] | None = None

    @cached_property
    def description(self) -> dict[str, Any]:
        """What the stage weights says of its network; nothing where it has none."""
        return read_json(self.weights / FEATURE_FILE, made_by=f"weights@{self.name}")

    @property
    def absolute_address(self) -> "Extraction":
        """The same for workers, who may be in another folder."""
        places = ("audio", "augmented", "weights", "out")
        return replace(self, **{name: getattr(self, name).resolve() for name in places})

    def run(
        self, share: tuple[int, int] | None = None, *, progress: Progress = silent
    ) -> tuple[int, tuple[int, ...]]:
        """Extract all of it, or a share (see `extract`); the number of rows, and the shape of a value."""
        feature = FEATURES[self.name]
        provenance = {key: self.description[key] for key in ("weights", "sha256") if key in self.description}
        network: dict[str, Any] = {"provenance": provenance}
        if feature.on_batch:
            from ust.util.device import prepare

            device = prepare(device=self.device, threads=self.threads)
            computed = feature.of_settings(self.settings)
            network |= {
                "on_batch": feature.on_batch(self.weights, computed, device),
                "conditions": {
                    "batch_clips": self.settings["batch_clips"],
                    "threads": self.threads,
                    "device": device.type,
                },
            }
        rows = find_rows(self.audio, self.augmented) if self.rows is None else list(self.rows)
        shape = extract(
            self.out, self.name, feature, rows, self.settings, share=share, progress=progress, **network
        )
        return len(rows), shape


def extract_shard(extraction: Extraction, count: int, index: int) -> int:
    """Compute one of so many shares, counted from 0: a function for a worker; gives the index."""
    extraction.run((index + 1, count))
    return index
