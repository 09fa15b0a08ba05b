"""Extracting features clip by clip in worker processes, with bounded memory, and never the same twice."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config
from threadpoolctl import threadpool_limits

from ust.audio.recordings import BadAudio, fit_length, read_recording
from ust.features.feature import Feature, OnBatch
from ust.features.finished import Finished
from ust.features.rows import Row
from ust.features.store import write_features
from ust.files.atomic import exclusive
from ust.files.digests import code_digest, digest, file_digest, versions
from ust.files.errors import UserError, listing
from ust.files.progress import Progress, silent

BATCH, CHUNK = 4, 64  # clips a task, clips in memory

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
    method = code_digest(feature.of_clip.__module__, attributes | (conditions or {}))
    if share is not None:
        rows = rows[share[0] - 1 :: share[1]]
    contents = [digest(method, feature.dtype, str(shape), _content(row.path)) for row in rows]
    with (
        closing(Finished(path, name, shape, feature.dtype)) as finished,
        exclusive(finished.parts) if share is None else nullcontext(),
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
        raise UserError(f"{len(bad)} of {len(rows)} audio files cannot be used:\n{listing(bad)}")


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
