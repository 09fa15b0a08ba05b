"""Extracting features clip by clip in worker processes, with bounded memory, and never the same twice."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config

from ust.audio import BadAudio
from ust.console import log, progress
from ust.digests import digest, file_digest
from ust.errors import UserError, listing
from ust.features import Row, write_features
from ust.files import exclusive
from ust.finished import Finished

BATCH, CHUNK = 4, 64  # clips a task, clips in memory

Results = Iterable[tuple[Row, np.ndarray]]


def extract(
    path: Path,
    name: str,
    rows: list[Row],
    compute: Callable[[list[Row]], Results],
    *,
    shape: tuple[int, ...],
    dtype: str,
    method: str,
    attributes: Mapping[str, Any],
) -> None:
    """Write a feature file; compute only what is not in the one there now, nor kept by a run cut short.

    Parameters
    ----------
    path : Path
    name : str
        Of the data set, such as "logmel".
    rows : list of Row
        Sorted.
    compute : callable
        Gives pairs of row and value [shape=shape] for rows, in any order. When it raises, what it gave
        before is kept for the next run.
    shape, dtype
        Of one row as stored.
    method : str
        Digest of how values are computed: with a clip's content it names its value.
    attributes : mapping
        Stored with the file.

    Raises
    ------
    UserError
        As `compute` does.
    """
    contents = [digest(method, dtype, str(shape), _content(row.path)) for row in rows]
    with closing(Finished(path, name, shape, dtype)) as finished, exclusive(finished.parts):
        # Equal clips have equal values; one of them is enough.
        first_of = dict(zip(reversed(contents), reversed(rows), strict=True))
        content_of = {row: content for content, row in first_of.items() if content not in finished}
        if len(content_of) < len(first_of):
            log.info("%s: %d of %d clips are done", path, len(first_of) - len(content_of), len(first_of))
        try:
            for row, value in compute(sorted(content_of)):
                finished.keep(content_of[row], value)
        except BaseException:
            finished.leave()
            raise
        values = (finished[content] for content in contents)
        write_features(path, name, rows, contents, values, shape=shape, dtype=dtype, attributes=attributes)
        finished.discard_parts()


def in_workers(
    function: Callable[..., np.ndarray], rows: list[Row], *, description: str, **settings: object
) -> Iterator[tuple[Row, np.ndarray]]:
    """Yield each row with ``function(row.path, **settings)``, in order.

    Raises
    ------
    UserError
        After the last row, listing every file that could not be read.
    """
    bad = []
    results = progress(_results(function, rows, settings), total=len(rows), description=description)
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, str):
            bad.append(result)
        else:
            yield row, result
    if bad:
        raise UserError(f"{len(bad)} of {len(rows)} audio files cannot be used:\n{listing(bad)}")


def _results(
    function: Callable[..., np.ndarray], rows: list[Row], settings: dict[str, object]
) -> Iterator[np.ndarray | str]:
    # joblib computes ahead of a slow reader without limit; a chunk at a time, no more than that is kept.
    # One thread each, and never this process: how a sum is split must not depend on the number of workers.
    with (
        parallel_config(backend="loky", inner_max_num_threads=1),
        Parallel(n_jobs=max(2, cpu_count()), return_as="generator", batch_size=BATCH) as pool,
    ):
        for start in range(0, len(rows), CHUNK):
            yield from pool(
                delayed(_or_reason)(function, row, settings) for row in rows[start : start + CHUNK]
            )


def _or_reason(
    function: Callable[..., np.ndarray], row: Row, settings: dict[str, object]
) -> np.ndarray | str:
    try:
        return function(row.path, **settings)
    except BadAudio as error:
        return str(error)


def _content(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return f"unreadable: {path}"  # computing it will say why
