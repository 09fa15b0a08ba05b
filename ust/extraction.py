"""Computing features clip by clip in worker processes, in order, with bounded memory."""

from collections.abc import Callable, Iterator

import numpy as np
from joblib import Parallel, delayed

from ust.audio import BadAudio
from ust.console import progress
from ust.errors import UserError, listing
from ust.features import Row

BATCH, CHUNK = 4, 64  # clips a task, clips in memory


def in_workers(
    function: Callable[..., np.ndarray], rows: list[Row], *, description: str, **settings: object
) -> Iterator[np.ndarray]:
    """Yield ``function(row.path, **settings)`` for every row, in order.

    Raises
    ------
    UserError
        After the last row, listing every file that could not be read.
    """
    bad = []
    for result in progress(_results(function, rows, settings), total=len(rows), description=description):
        if isinstance(result, str):
            bad.append(result)
        elif not bad:
            yield result
    if bad:
        raise UserError(f"{len(bad)} of {len(rows)} audio files cannot be used:\n{listing(bad)}")


def _results(
    function: Callable[..., np.ndarray], rows: list[Row], settings: dict[str, object]
) -> Iterator[np.ndarray | str]:
    # joblib computes ahead of a slow reader without limit; a chunk at a time, no more than that is kept.
    with Parallel(n_jobs=-1, return_as="generator", batch_size=BATCH) as pool:
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
