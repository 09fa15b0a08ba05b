"""Tagging one shard of an archive, as a function of its arguments alone so that any worker can run it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ust.annotations.taxonomy import Taxonomy
from ust.archive.filesystems import open_recording_file
from ust.archive.folder import EMBEDDINGS, EVENTS, FAILURES, TAGS, WARNINGS, Archive
from ust.features.context import CONTEXT, Place, context_vector
from ust.tagging.formats import find_events
from ust.tagging.tagger import Tagger, Window
from ust.util.device import prepare_device
from ust.util.errors import UserError

ROWS_PER_WRITE = 1024
MAX_REASONS = 20  # failures whose reasons are reported to the terminal
EMBEDDINGS_PER_BATCH = 256
SPAN = (("path", pa.string()), ("sensor", pa.string()), ("time", pa.timestamp("us")),
        ("start", pa.float64()), ("duration", pa.float64()), ("model", pa.string()))  # fmt: skip


@dataclass(frozen=True)
class ShardJob:
    """Settings that are the same for all shards."""

    archive: str  # address of the archive to write
    model: str  # folder of the trained system, with the weights of its features beside it
    model_id: str  # identifier of the system for the column ``model`` of the tags
    inference_options: dict[str, Any] = field(hash=False)  # post-processing options of `Tagger.load`
    window: float = 10.0  # duration of a window, in seconds
    hop: float = 10.0  # distance between window starts, in seconds
    threshold: float | None = None  # lowest probability of an event; None: each label's own threshold
    embeddings: bool = False  # whether to write the features, too
    source_archive: str | None = None  # address of an archive whose embeddings are read instead of audio
    # Places of sensors, for a system that takes time and place
    places: dict[str, Place] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ShardResult:
    """Counts of a shard: recordings, rows of tags, failed and incomplete recordings; reasons of failures."""

    shard: int
    recordings: int
    rows: int
    failures: int
    warnings: int
    reasons: tuple[str, ...]


@lru_cache(maxsize=1)
def _load_tagger(job: ShardJob) -> Tagger:
    """Load the tagger once per process."""
    return Tagger.load(job.model, **job.inference_options)


def tag_shard(job: ShardJob, shard: int) -> ShardResult:
    """Tag the recordings of a shard and write its files.

    A recording that cannot be read becomes a row of the failures. Every machine uses one thread, since the
    number of threads changes the order of sums and thereby the last bits of the probabilities.
    """
    prepare_device(device="cpu", threads=1)
    archive, tagger = Archive(job.archive), _load_tagger(job)
    recordings = archive.read_recordings(shard).to_pylist()
    with archive.shard_writers(shard, _schemas(job, tagger)) as writers:
        buffers = {kind: RowBuffer(writer) for kind, writer in writers.items()}
        if job.source_archive is not None:
            _tag_embeddings(job, tagger, shard, buffers)
        else:
            for recording in recordings:
                _tag_audio(job, tagger, recording, buffers)
        for buffer in buffers.values():
            buffer.flush()
    failed = buffers[FAILURES]
    return ShardResult(
        shard,
        len(recordings),
        buffers[TAGS].count,
        failed.count,
        buffers[WARNINGS].count,
        tuple(failed.reasons),
    )


class RowBuffer:
    """Collects rows and writes them to a Parquet file in batches."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self.writer, self.rows, self.count, self.reasons = writer, [], 0, []

    def add(self, row: dict[str, Any], reason: str | None = None) -> None:
        """Add a row; of the reasons, the first `MAX_REASONS` are kept."""
        self.rows.append(row)
        self.count += 1
        if reason is not None and len(self.reasons) < MAX_REASONS:
            self.reasons.append(reason)
        if len(self.rows) == ROWS_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        """Write the collected rows."""
        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.writer.schema))
            self.rows.clear()


def _tag_audio(
    job: ShardJob, tagger: Tagger, recording: dict[str, Any], buffers: dict[str, RowBuffer]
) -> None:
    """Tag a recording; its rows are added only after all of it has been read."""
    path = recording["path"]
    metadata = {"path": path, "sensor": recording["sensor"], "model": job.model_id}
    warnings: list[str] = []
    try:
        with open_recording_file(path) as raw:
            windows = list(
                tagger.tag_file(
                    raw, path, window=job.window, hop=job.hop, start=recording["start"] or 0.0,
                    duration=recording["duration"], features=job.embeddings, warn=warnings.append,
                    time=recording["time"], place=job.places.get(recording["sensor"]),
                )
            )  # fmt: skip
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        buffers[FAILURES].add(
            {"path": path, "start": recording["start"], "reason": reason}, f"{path}: {reason}"
        )
        return
    for text in warnings:
        warning = text.removeprefix(f"{path}: ")
        buffers[WARNINGS].add({"path": path, "start": recording["start"], "warning": warning})
    for window in windows:
        row = metadata | _span(recording["time"], window.start, window.end)
        buffers[TAGS].add(
            row | dict(zip(column_names(tagger.taxonomy), window.probabilities.tolist(), strict=True))
        )
        if job.embeddings:
            features = {name: value.ravel() for name, value in window.features.items()}
            section = {"section": recording["start"] or 0.0, "silent": not window.probabilities.any()}
            buffers[EMBEDDINGS].add(row | features | section)
    _add_events(job, tagger, windows, metadata, recording["time"], buffers)


def _add_events(
    job: ShardJob,
    tagger: Tagger,
    windows: list[Window],
    metadata: dict[str, Any],
    time: datetime | None,
    buffers: dict[str, RowBuffer],
) -> None:
    """Add the events of a recording that begins at a time."""
    thresholds = tagger.thresholds if job.threshold is None else job.threshold
    for label, start, end, highest in find_events(windows, tagger.taxonomy, thresholds):
        buffers[EVENTS].add(metadata | _span(time, start, end) | {"label": label, "probability": highest})


def _tag_embeddings(job: ShardJob, tagger: Tagger, shard: int, buffers: dict[str, RowBuffer]) -> None:
    """Tag a shard from the embeddings of another archive; its failures and warnings are copied."""
    source = Archive(job.source_archive)
    for row in source.read(FAILURES, shard).to_pylist():
        buffers[FAILURES].add(row, f"{row['path']}: {row['reason']}")
    for row in source.read(WARNINGS, shard).to_pylist() if source.has_file(WARNINGS, shard) else ():
        buffers[WARNINGS].add(row)
    # By recording: two sections of a file are two recordings.
    windows: dict[tuple[str, float | None], tuple[dict[str, Any], list[Window]]] = {}
    for batch in source.read(EMBEDDINGS, shard).to_batches(max_chunksize=EMBEDDINGS_PER_BATCH):
        features = {
            name: np.stack(batch[name].to_numpy(zero_copy_only=False)).reshape(-1, *front_end.shape)
            for name, front_end in tagger.front_ends.items()
        }
        spans = batch.select([name for name, _ in SPAN]).to_pylist()
        # Archives of older versions do not name the section.
        named = "section" in batch.schema.names
        sections = batch["section"].to_pylist() if named else [None] * len(spans)
        if tagger.takes_context:
            vectors = [context_vector(row["time"], job.places.get(row["sensor"])) for row in spans]
            features[CONTEXT] = np.stack(vectors)
        predicted = tagger.probabilities(features)
        predicted[batch["silent"].to_numpy(zero_copy_only=False)] = 0
        for row, section, probabilities in zip(spans, sections, predicted, strict=True):
            labels = dict(zip(column_names(tagger.taxonomy), probabilities.tolist(), strict=True))
            buffers[TAGS].add(row | {"model": job.model_id} | labels)
            window = Window(row["start"], row["start"] + row["duration"], probabilities)
            windows.setdefault((row["path"], section), (row, []))[1].append(window)
    for (path, _), (row, recording_windows) in windows.items():
        metadata = {"path": path, "sensor": row["sensor"], "model": job.model_id}
        time = row["time"] and row["time"] - timedelta(seconds=row["start"])
        _add_events(job, tagger, recording_windows, metadata, time, buffers)


def column_names(taxonomy: Taxonomy) -> tuple[str, ...]:
    """Return the columns of the labels: their names, or with their numbers if a name is another column's."""
    reserved = {name for name, _ in SPAN} | {"hour", "day", "weekday", "week", "month"}
    return taxonomy.labels if reserved & {name.lower() for name in taxonomy.names} else taxonomy.names


def _span(time: datetime | None, start: float, end: float) -> dict[str, Any]:
    """Return the columns start, duration and time of a section of a recording."""
    return {
        "start": start,
        "duration": round(end - start, 6),
        "time": None if time is None else time + timedelta(seconds=start),
    }


def _schemas(job: ShardJob, tagger: Tagger) -> dict[str, pa.Schema]:
    """Return the schemas of the files of a shard."""
    schemas = {
        TAGS: pa.schema([*SPAN, *((name, pa.float32()) for name in column_names(tagger.taxonomy))]),
        FAILURES: pa.schema([("path", pa.string()), ("start", pa.float64()), ("reason", pa.string())]),
        WARNINGS: pa.schema([("path", pa.string()), ("start", pa.float64()), ("warning", pa.string())]),
        EVENTS: pa.schema([*SPAN, ("label", pa.string()), ("probability", pa.float32())]),
    }
    if job.embeddings:
        columns = [
            (name, pa.list_(pa.from_numpy_dtype(np.dtype(front_end.dtype)), int(np.prod(front_end.shape))))
            for name, front_end in tagger.front_ends.items()
        ]
        schemas[EMBEDDINGS] = pa.schema([*SPAN, *columns, ("section", pa.float64()), ("silent", pa.bool_())])
    return schemas
