"""Tagging one shard of an archive: a function of nothing but what it is told, for any worker anywhere."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from ust.archive.filesystems import explain_errors, filesystem
from ust.archive.folder import EMBEDDINGS, EVENTS, FAILURES, TAGS, WARNINGS, Archive
from ust.tagging.formats import events
from ust.tagging.tagger import Tagger
from ust.util.device import prepare_device
from ust.util.errors import UserError
from ust.util.names import restore_name

ROWS = 1024  # written together
FEW = 20  # reasons of failures, for the terminal
TOGETHER = 256  # embeddings, given to the system at once
SPAN = (("path", pa.string()), ("sensor", pa.string()), ("time", pa.timestamp("us")),
        ("start", pa.float64()), ("duration", pa.float64()), ("model", pa.string()))  # fmt: skip


@dataclass(frozen=True)
class ShardJob:
    """What is the same for all shards.

    Attributes
    ----------
    archive : str
        Address of the folder that tags are written to.
    model : str
        Folder of the trained system; its features' weights are beside it.
    model_id : str
        Stands in each row of tags.
    inference_options : dict
        How the system's answers are read: arguments of `Tagger.load`.
    window, hop : float
        Seconds.
    threshold : float or None
        Of events; none are listed without.
    embeddings : bool
        Whether the system's features are kept.
    tagged_before : str or None
        Address of an archive with embeddings, which are read in the place of audio.
    """

    archive: str
    model: str
    model_id: str
    inference_options: dict[str, Any] = field(hash=False)
    window: float = 10.0
    hop: float = 10.0
    threshold: float | None = None
    embeddings: bool = False
    tagged_before: str | None = None


@dataclass(frozen=True)
class ShardResult:
    """What came of a shard: recordings, rows of tags, recordings that could not be tagged, incomplete ones.

    Of the reasons of failures there are the first few.
    """

    shard: int
    recordings: int
    rows: int
    failures: int
    warnings: int
    reasons: tuple[str, ...]


@lru_cache(maxsize=1)
def _tagger(job: ShardJob) -> Tagger:
    """Loaded once a process."""
    return Tagger.load(job.model, **job.inference_options)


def tag_shard(job: ShardJob, shard: int) -> ShardResult:
    """Tag the recordings of a shard and write its files.

    A recording that cannot be read is a row of failures with the reason; all others are tagged. On one thread
    whatever the machine has: how a sum is split must not depend on where the shard is computed.

    Raises
    ------
    UserError
        If the model or the archive cannot be used.
    """
    prepare_device(device="cpu", threads=1)
    archive, tagger = Archive(job.archive), _tagger(job)
    recordings = archive.recordings(shard).to_pylist()
    with archive.parts(shard, _schemas(job, tagger)) as writers:
        out = {kind: Rows(writer) for kind, writer in writers.items()}
        if job.tagged_before is not None:
            _from_embeddings(job, tagger, shard, out)
        else:
            for recording in recordings:
                _from_audio(job, tagger, recording, out)
        for rows in out.values():
            rows.flush()
    failed = out[FAILURES]
    return ShardResult(
        shard, len(recordings), out[TAGS].count, failed.count, out[WARNINGS].count, tuple(failed.first)
    )


class Rows:
    """Rows on their way to a file, so many at a time."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self.writer, self.waiting, self.count, self.first = writer, [], 0, []

    def add(self, row: dict[str, Any], text: str | None = None) -> None:
        """Add one more, and keep its text if it is among the first few that have one."""
        self.waiting.append(row)
        self.count += 1
        if text is not None and len(self.first) < FEW:
            self.first.append(text)
        if len(self.waiting) == ROWS:
            self.flush()

    def flush(self) -> None:
        """Write those that wait."""
        if self.waiting:
            self.writer.write_table(pa.Table.from_pylist(self.waiting, schema=self.writer.schema))
            self.waiting.clear()


def _from_audio(job: ShardJob, tagger: Tagger, recording: dict[str, Any], out: dict[str, Rows]) -> None:
    """Tag a recording; its rows are written when all of it could be read."""
    path = recording["path"]
    metadata = {"path": path, "sensor": recording["sensor"], "model": job.model_id}
    found: list[str] = []
    try:
        fs, place = filesystem(path)
        with explain_errors(path), fs.open(_written(fs, place), "rb") as raw:
            windows = list(
                tagger.tag_file(
                    raw, path, window=job.window, hop=job.hop, start=recording["start"] or 0.0,
                    duration=recording["duration"], features=job.embeddings, warn=found.append,
                )
            )  # fmt: skip
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        out[FAILURES].add({"path": path, "start": recording["start"], "reason": reason}, f"{path}: {reason}")
        return
    for text in found:
        warning = text.removeprefix(f"{path}: ")
        out[WARNINGS].add({"path": path, "start": recording["start"], "warning": warning})
    for window in windows:
        row = metadata | _span(recording["time"], window.start, window.end)
        out[TAGS].add(row | dict(zip(tagger.taxonomy.labels, window.probabilities.tolist(), strict=True)))
        if job.embeddings:
            given = {name: value.ravel() for name, value in window.features.items()}
            out[EMBEDDINGS].add(row | given | {"silent": not window.probabilities.any()})
    if job.threshold is not None:
        for label, start, end, most in events(windows, tagger.taxonomy, job.threshold):
            out[EVENTS].add(
                metadata | _span(recording["time"], start, end) | {"label": label, "probability": most}
            )


def _written(fs: AbstractFileSystem, place: str) -> str:
    """A place as the file system has it: in a Parquet file, bytes of names that are not UTF-8 are escaped."""
    return restore_name(place) if "\\x" in place and not fs.exists(place) else place


def _from_embeddings(job: ShardJob, tagger: Tagger, shard: int, out: dict[str, Rows]) -> None:
    """Tag what another archive kept of a shard; what failed there, fails."""
    before = Archive(job.tagged_before)
    for row in before.read(FAILURES, shard).to_pylist():
        out[FAILURES].add(row, f"{row['path']}: {row['reason']}")
    for row in before.read(WARNINGS, shard).to_pylist() if before.has(WARNINGS, shard) else ():
        out[WARNINGS].add(row)
    for batch in before.read(EMBEDDINGS, shard).to_batches(max_chunksize=TOGETHER):
        features = {
            name: np.stack(batch[name].to_numpy(zero_copy_only=False)).reshape(-1, *each.shape)
            for name, each in tagger.front_ends.items()
        }
        found = tagger.probabilities(features)
        found[batch["silent"].to_numpy(zero_copy_only=False)] = 0
        spans = batch.select([name for name, _ in SPAN]).to_pylist()
        for row, probabilities in zip(spans, found.tolist(), strict=True):
            labels = dict(zip(tagger.taxonomy.labels, probabilities, strict=True))
            out[TAGS].add(row | {"model": job.model_id} | labels)


def _span(time: datetime | None, start: float, end: float) -> dict[str, Any]:
    """Where a stretch is in its recording, and when it was."""
    return {
        "start": start,
        "duration": round(end - start, 6),
        "time": None if time is None else time + timedelta(seconds=start),
    }


def _schemas(job: ShardJob, tagger: Tagger) -> dict[str, pa.Schema]:
    """Of the files that are written of each shard."""
    found = {
        TAGS: pa.schema([*SPAN, *((label, pa.float32()) for label in tagger.taxonomy.labels)]),
        FAILURES: pa.schema([("path", pa.string()), ("start", pa.float64()), ("reason", pa.string())]),
        WARNINGS: pa.schema([("path", pa.string()), ("start", pa.float64()), ("warning", pa.string())]),
    }
    if job.threshold is not None:
        found[EVENTS] = pa.schema([*SPAN, ("label", pa.string()), ("probability", pa.float32())])
    if job.embeddings:
        kinds = [
            (name, pa.list_(pa.from_numpy_dtype(np.dtype(each.dtype)), int(np.prod(each.shape))))
            for name, each in tagger.front_ends.items()
        ]
        found[EMBEDDINGS] = pa.schema([*SPAN, *kinds, ("silent", pa.bool_())])
    return found
