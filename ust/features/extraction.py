"""Feature extraction: compute the values of all clips, reuse those that exist, and write the feature file.

A value is identified by a digest of its audio, the settings and the code that computes it. Values with a
known digest are read from the existing feature file, or from the parts that an interrupted run has written.
"""

import json
import logging
import shutil
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
from ust.features.feature import NETWORK_FILE, Embed, Feature
from ust.features.registry import FeatureRow
from ust.features.store import CONTENT, HDF5_ERRORS, Row, find_rows, open_hdf5, write_features
from ust.util.digests import digest, file_digest, source_digest, versions
from ust.util.documents import read_json
from ust.util.errors import UserError, bullet_list
from ust.util.files import lock_folder
from ust.util.progress import Progress, silent

BATCH, CHUNK = 4, 64  # clips per task, clips in memory and in a part
OPEN_FILES = 100
# The source that the values of every feature depend on; see `Feature.sources`.
SOURCES = (
    "ust/audio/containers.py", "ust/audio/recordings.py", "ust/audio/resampling.py",
    "ust/features/extraction.py", "ust/features/feature.py",
)  # fmt: skip

log = logging.getLogger("ust")
Results = Iterable[tuple[Row, np.ndarray]]


def parts_folder(path: Path) -> Path:
    """Return the folder of the parts of a feature file."""
    return path.with_name(f".{path.name}.parts")


class StoredValues:
    """Values that need not be computed: those of a feature file and of the parts of an interrupted run.

    A part is a feature file of at most `CHUNK` rows, written as soon as they are computed.
    """

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        self.name, self.shape, self.dtype = name, shape, np.dtype(dtype)
        self.parts = parts_folder(path)
        self._rows: dict[str, tuple[Path, int]] = {}  # file and row by content digest
        self._open: dict[Path, h5py.File] = {}
        self._pending: list[tuple[Row, str, np.ndarray]] = []  # rows of the next part
        for file in (path, *sorted(self.parts.glob("*.h5"))):
            # Values of a damaged file are computed again.
            with suppress(*HDF5_ERRORS), open_hdf5(file) as opened:
                self._rows |= {content: (file, i) for i, content in enumerate(opened[CONTENT].asstr()[:])}

    def close(self) -> None:
        """Close the files."""
        while self._open:
            self._open.popitem()[1].close()

    def get(self, content: str) -> np.ndarray | None:
        """Return the value with a content digest; None if it is missing or unreadable."""
        try:
            file, row = self._rows[content]
            value = self._file(file)[self.name][row]
        except HDF5_ERRORS:
            return None
        return value if (value.shape, value.dtype) == (self.shape, self.dtype) else None

    def load(self, content: str) -> np.ndarray:
        """Return the value with a content digest; raise UserError if it is missing or unreadable."""
        value = self.get(content)
        if value is None:
            raise UserError(f"{self.parts}: values computed a moment ago are gone; run the stage again")
        return value

    def add(self, row: Row, content: str, value: np.ndarray) -> None:
        """Add a value; write a part when it is complete."""
        self._pending.append((row, content, value))
        if len(self._pending) == CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write the values that were added and are not yet written, as a part."""
        if not self._pending:
            return
        rows, contents, values = (list(column) for column in zip(*self._pending, strict=True))
        self._pending.clear()
        part = self.parts / f"{digest(*contents)}.h5"
        if part in self._open:  # a damaged part of the same rows
            self._open.pop(part).close()
        write_features(
            part, self.name, rows, contents, values, shape=self.shape, dtype=self.dtype.name, attributes={}
        )
        self._rows |= {content: (part, i) for i, content in enumerate(contents)}

    def _file(self, path: Path) -> h5py.File:
        """Return an open file; at most `OPEN_FILES` are open, as the system limits their number."""
        if path not in self._open:
            if len(self._open) >= OPEN_FILES:
                self.close()
            self._open[path] = open_hdf5(path)
        return self._open[path]


def extract(
    path: Path,
    name: str,
    feature: Feature,
    rows: list[Row],
    settings: Mapping[str, Any],
    *,
    provenance: Mapping[str, str] | None = None,
    embed: Embed | None = None,
    conditions: Mapping[str, Any] | None = None,
    shard: tuple[int, int] | None = None,
    progress: Progress = silent,
) -> tuple[int, ...]:
    """Write a feature file; compute only values that neither the existing file nor an interrupted run has.

    Parameters
    ----------
    path : Path
        The feature file.
    name : str
        Name of the feature and of the HDF5 data set.
    feature : Feature
        The kind of feature, an entry of `ust.features.registry.FEATURES`.
    rows : list of Row
        Sorted.
    settings : mapping
        The feature's row of params.yaml and the description of its network.
    provenance : mapping, optional
        Kind of the feature and, for an embedding, name and digest of the weights: attributes of the file.
    embed : callable, optional
        The feature's network, if it has one.
    conditions : mapping, optional
        Conditions that affect the last bits of a network's output, such as the number of threads. Values
        computed under other conditions are not reused.
    shard : (int, int), optional
        Compute only shard i of n, counted from 0, in this process, and write its values as parts. A later run
        without a shard writes the file. Several shards may be computed at the same time.
    progress : callable, optional
        Shows the progress of the extraction; see `ust.util.progress.Progress`.

    Returns
    -------
    tuple of int
        The shape of a value.

    Raises
    ------
    UserError
        Listing every file that could not be read. Values computed before are kept for the next run.
    """
    extraction_config = feature.config_from(settings)
    shape = feature.shape(extraction_config)
    attributes = {
        **(provenance or {}),
        **extraction_config.model_dump(),
        "versions": versions(*feature.packages),
    }
    method = digest(
        source_digest(*SOURCES, *feature.sources),
        json.dumps(attributes | dict(conditions or {}), sort_keys=True),
    )
    if shard is not None:
        index, count = shard
        rows = rows[len(rows) * index // count : len(rows) * (index + 1) // count]
    contents = [digest(method, feature.dtype, str(shape), _content_digest(row.path)) for row in rows]
    with (
        # Processes that compute different shards write different parts, and need no lock.
        lock_folder(parts_folder(path)) if shard is None else nullcontext(),
        # Opened after waiting for the lock, because its previous holder may have replaced the feature file.
        closing(StoredValues(path, name, shape, feature.dtype)) as stored,
    ):
        # Identical clips have the same digest and are computed once, as the first of their rows.
        row_by_content = dict(zip(reversed(contents), reversed(rows), strict=True))
        missing = {row: content for content, row in row_by_content.items() if stored.get(content) is None}
        total = len(row_by_content)
        if len(missing) < total:
            log.info("%s: %d of %d clips are done", path, total - len(missing), total)
        run = _run_parallel if shard is None else _run_sequential
        results: Results = compute_clips(feature, extraction_config, sorted(missing), name, progress, run)
        if embed is not None:
            results = embed_batches(results, embed, settings["batch_clips"])
        try:
            for row, value in results:
                stored.add(row, missing[row], value)
        finally:
            stored.flush()  # values computed before an error need not be computed again
            if shard is None:
                with suppress(OSError):
                    stored.parts.rmdir()  # fails if the folder has parts
        if shard is not None:
            return shape
        values = (stored.load(content) for content in contents)
        write_features(
            path, name, rows, contents, values, shape=shape, dtype=feature.dtype, attributes=attributes
        )
        shutil.rmtree(stored.parts, ignore_errors=True)
    return shape


def compute_clips(
    feature: Feature,
    extraction_config: Any,
    rows: list[Row],
    description: str,
    progress: Progress,
    run: Callable[[Callable, Any, list[Row]], Iterator[np.ndarray | str]],
) -> Iterator[tuple[Row, np.ndarray]]:
    """Yield each row with its value, or the network's input, in order; `run` computes them."""
    problems = []
    results = progress(
        run(feature.process_clip, extraction_config, rows), total=len(rows), description=description
    )
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, str):
            problems.append(result)
        else:
            yield row, result
    if problems:
        raise UserError(
            f"{len(problems)} of {len(rows)} audio files cannot be used:\n{bullet_list(problems)}"
        )


def embed_batches(results: Results, embed: Embed, clips: int) -> Iterator[tuple[Row, np.ndarray]]:
    """Run a network on batches of clips; yield each clip's row and value.

    The last batch is padded with zeros. The order of summation depends on the batch size, and a clip's value
    must not depend on how many other clips are computed with it.
    """
    results = iter(results)
    while batch := list(islice(results, clips)):
        rows, values = zip(*batch, strict=True)
        padding = [np.zeros_like(values[0])] * (clips - len(values))
        yield from zip(rows, embed(np.stack([*values, *padding])), strict=False)


def _run_parallel(
    process_clip: Callable, extraction_config: Any, rows: list[Row]
) -> Iterator[np.ndarray | str]:
    """Compute rows in worker processes; yield values, or the reason why a file cannot be read."""
    # One thread per worker, and at least two workers: the order of summation must not depend on their number.
    # joblib computes ahead of a slow consumer without limit; chunks bound the memory.
    with (
        parallel_config(backend="loky", inner_max_num_threads=1),
        Parallel(n_jobs=max(2, cpu_count()), return_as="generator", batch_size=BATCH) as pool,
    ):
        for start in range(0, len(rows), CHUNK):
            yield from pool(
                delayed(_process_or_explain)(process_clip, row, extraction_config)
                for row in rows[start : start + CHUNK]
            )


def _run_sequential(
    process_clip: Callable, extraction_config: Any, rows: list[Row]
) -> Iterator[np.ndarray | str]:
    """Compute rows in this process, for workers of a cluster, which cannot start workers of their own."""
    for row in rows:
        with threadpool_limits(1):
            result = _process_or_explain(process_clip, row, extraction_config)
        yield result


def _process_or_explain(process_clip: Callable, row: Row, extraction_config: Any) -> np.ndarray | str:
    """Return the value of a clip, or the reason why its file cannot be read."""
    try:
        recording = read_recording(row.path)
    except BadAudio as error:
        return str(error)
    mono = fit_length(recording.samples, recording.sample_rate)
    return process_clip(mono, recording.sample_rate, extraction_config)


def _content_digest(path: Path) -> str:
    """Return the digest of a file."""
    try:
        return file_digest(path)
    except OSError:
        return f"unreadable: {path}"  # `_process_or_explain` reports the reason


@dataclass(frozen=True)
class Extraction:
    """The extraction of one feature: settings, audio folders, network and output file."""

    row: FeatureRow  # the feature's row of params.yaml
    audio: Path  # folder with a folder for each split
    augmented: Path  # folder of the stage augment
    network: Path | None  # folder that the stage weights wrote, for an embedding
    out: Path
    threads: int  # threads of the network
    device: str  # see `ust.util.device.prepare_device`
    rows: tuple[Row, ...] | None = None  # the clips to extract; None for all clips in the folders

    @cached_property
    def description(self) -> dict[str, Any]:
        """The description of the network that the stage weights wrote; empty for a spectrogram."""
        name = self.row.feature.network
        if name is None:
            return {}
        if self.network is None:
            raise UserError(f"{self.row.name} is an embedding: give --network, the folder of weights@{name}")
        description = read_json(self.network / NETWORK_FILE, made_by=f"weights@{name}")
        if description.get("network") != name:
            raise UserError(f"{self.network}: is not the network {name}; weights@{name} writes it")
        return description

    def with_absolute_paths(self) -> "Extraction":
        """Return the same extraction for workers with another working folder."""
        paths = {name: getattr(self, name) for name in ("audio", "augmented", "network", "out")}
        return replace(self, **{name: path and path.resolve() for name, path in paths.items()})

    def run(
        self, shard: tuple[int, int] | None = None, *, progress: Progress = silent
    ) -> tuple[int, tuple[int, ...]]:
        """Extract all rows, or a shard (see `extract`); return their number and the shape of a value."""
        feature = self.row.feature
        settings = self.row.settings.model_dump() | self.description
        provenance = {"kind": self.row.kind}
        provenance |= {
            key: self.description[key] for key in ("network", "weights", "sha256") if key in self.description
        }
        embed, conditions = None, {}
        if feature.load:
            from ust.util.device import check_precision, prepare_device

            device = prepare_device(device=self.device, threads=self.threads)
            check_precision(settings.get("precision", "float32"), device, f"{feature.network}.precision")
            embed = feature.load(self.network, feature.config_from(settings), device)
            batch_clips = settings["batch_clips"]
            conditions = {"batch_clips": batch_clips, "threads": self.threads, "device": device.type}
        rows = find_rows(self.audio, self.augmented) if self.rows is None else list(self.rows)
        shape = extract(
            self.out, self.row.name, feature, rows, settings,
            provenance=provenance, embed=embed, conditions=conditions, shard=shard, progress=progress,
        )  # fmt: skip
        return len(rows), shape


def extract_shard(extraction: Extraction, count: int, index: int) -> int:
    """Compute shard `index` of `count`, counted from 0, in a worker; return the index."""
    extraction.run((index, count))
    return index
