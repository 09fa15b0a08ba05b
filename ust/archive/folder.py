"""The folder of an archive: the recordings to tag and, for each shard, Parquet files with the results.

``archive.json`` describes the system and the settings. ``recordings.parquet`` lists the recordings, one row
group per shard; ``recordings-00005.parquet`` lists recordings added later, from shard 5 on. A list never
changes.

``tags/00000.parquet`` … hold the tags; ``failures``, ``warnings``, ``events`` and ``embeddings`` hold the
other results of a shard. The tags are written last and atomically, so a shard is finished if its tags exist.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import ENOSYS
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from ust.archive.filesystems import explain_errors, is_local, resolve_address
from ust.archive.recordings import SCHEMA
from ust.util.errors import UserError
from ust.util.files import atomic_write, write_if_absent

TAGS, FAILURES, WARNINGS, EVENTS, EMBEDDINGS = "tags", "failures", "warnings", "events", "embeddings"
DESCRIPTION, RECORDINGS = "archive.json", "recordings.parquet"
LIST_NAME = re.compile(r"recordings(?:-(\d+))?\.parquet")
ATTEMPTS = 40  # to create a file while other processes do the same, with growing pauses of up to 4 seconds


class Archive:
    """An archive of tags in a local folder or at an address that fsspec opens."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.fs, self.root = resolve_address(address)

    def description(self) -> dict[str, Any] | None:
        """Return what `create` wrote, or None if the archive does not exist yet."""
        with explain_errors(self.address):
            self.fs.invalidate_cache()
            if not self.exists() and self.fs.exists(self.root):
                names = [PurePosixPath(path).name for path in self.fs.ls(self.root, detail=False)]
                others = [name for name in names if not name.endswith(".partial")]
                if others and not self.exists():  # unless another process has just created it
                    raise UserError(f"{self.address}: is not an archive of tags and not empty: {min(others)}")
            return json.loads(self.fs.cat_file(self._path(DESCRIPTION))) if self.exists() else None

    def exists(self) -> bool:
        """Return whether the archive has been created."""
        return self.fs.exists(self._path(DESCRIPTION))

    def create(self, description: Mapping[str, Any]) -> None:
        """Write the description of the system and the settings, unless another process has done so."""
        text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
        self._write_new(DESCRIPTION, text.encode())

    def add_recordings(self, recordings: pa.Table, shard_clips: int) -> tuple[int, list[str]]:
        """Append recordings that are not listed yet, as new shards; return their number and missing paths.

        The archive lists missing paths, but `recordings` does not have them. Existing shards do not change.
        Processes on any number of machines may call this at the same time. Each list is a new file, named
        after its first shard and created exclusively by one process; the other processes then compare
        their recordings with the lists again.
        """
        keys = _recording_keys(recordings)
        for attempt in range(ATTEMPTS):
            lists = self._find_lists()
            listed = {key for _, name in lists for key in self._read_keys(name)}
            new = recordings.filter(pa.array([key not in listed for key in keys], pa.bool_()))
            missing = sorted({path for path, _ in listed} - {path for path, _ in keys})
            if not len(new):
                return 0, missing
            buffer = pa.BufferOutputStream()
            pq.write_table(new, buffer, row_group_size=shard_clips, compression="zstd")
            first = self._count_shards(lists)
            name = f"recordings-{first:05}.parquet" if first else RECORDINGS
            if self._write_new(name, buffer.getvalue().to_pybytes()):
                return len(new), missing
            time.sleep(0.1 * attempt)  # until the other process's file becomes visible here
        raise UserError(f"{self.address}: other processes keep adding recordings; run the command again")

    def copy_recordings(self, other: "Archive") -> None:
        """List the recordings of another archive, in the same shards."""
        for _, name in other._find_lists():
            with other._open(name) as file:
                self._write_new(name, file.read())

    def shard_count(self) -> int:
        """Return the number of shards."""
        return self._count_shards(self._find_lists())

    def read_recordings(self, shard: int) -> pa.Table:
        """Read the recordings of a shard."""
        first, name = max((first, name) for first, name in self._find_lists() if first <= shard)
        with self._open(name) as file:
            return pq.ParquetFile(file).read_row_group(shard - first).cast(SCHEMA)

    def _find_lists(self) -> list[tuple[int, str]]:
        """Return the first shard and the file name of each list of recordings, in order."""
        with explain_errors(self.address):
            self.fs.invalidate_cache()
            names = [PurePosixPath(path).name for path in self.fs.ls(self.root, detail=False)]
        lists = [(int(match[1] or 0), name) for name in names if (match := LIST_NAME.fullmatch(name))]
        return sorted(lists)

    def _count_shards(self, lists: list[tuple[int, str]]) -> int:
        """Return the number of shards in the lists of recordings."""
        if not lists:
            return 0
        first, name = lists[-1]
        with self._open(name) as file:
            return first + pq.ParquetFile(file).num_row_groups

    def _read_keys(self, name: str) -> list[tuple[str, float]]:
        """Read the keys of the recordings in a list."""
        with self._open(name) as file:
            return _recording_keys(pq.read_table(file, columns=["path", "start"]))

    def finished_shards(self) -> set[int]:
        """Return the shards whose tags exist, by listing file names without opening any file."""
        with explain_errors(self.address):
            self.fs.invalidate_cache()
            folder = self._path(TAGS)
            paths = self.fs.ls(folder, detail=False) if self.fs.exists(folder) else []
        stems = [PurePosixPath(path).stem for path in paths if path.endswith(".parquet")]
        return {int(stem) for stem in stems if stem.isdigit()}

    @contextmanager
    def shard_writers(
        self, shard: int, schemas: Mapping[str, pa.Schema]
    ) -> Iterator[dict[str, pq.ParquetWriter]]:
        """Open writers for the files of a shard; the end of the block publishes them, the tags last."""
        with TemporaryDirectory(prefix="ust-shard-") as scratch:
            paths = {kind: Path(scratch, f"{kind}.parquet") for kind in schemas}
            writers = {
                kind: pq.ParquetWriter(paths[kind], schema, compression="zstd")
                for kind, schema in schemas.items()
            }
            try:
                yield writers
            finally:
                for writer in writers.values():
                    writer.close()
            for kind in sorted(schemas, key=lambda kind: kind == TAGS):
                self._publish(paths[kind], self.shard_file(kind, shard))

    @staticmethod
    def shard_file(kind: str, shard: int) -> str:
        """Return the name of a file of a shard."""
        return f"{kind}/{shard:05}.parquet"

    def dataset(self, kind: str) -> pyarrow.dataset.Dataset:
        """Return the files of one kind of all finished shards as a dataset that is read lazily."""
        paths = [self._path(self.shard_file(kind, shard)) for shard in sorted(self.finished_shards())]
        if not paths:
            raise UserError(f"{self.address}: no shard is finished; tag the archive first")
        return pyarrow.dataset.dataset(paths, filesystem=self.fs, format="parquet")

    def read(self, kind: str, shard: int) -> pa.Table:
        """Read a file of a shard."""
        with self._open(self.shard_file(kind, shard)) as file:
            return pq.read_table(file)

    def has_file(self, kind: str, shard: int) -> bool:
        """Return whether a shard has a file of a kind; archives of older versions have fewer kinds."""
        return self.fs.exists(self._path(self.shard_file(kind, shard)))

    def _path(self, name: str) -> str:
        """Return the path of a file of the archive in its file system."""
        return f"{self.root.rstrip('/')}/{name}"

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file of the archive for reading."""
        with explain_errors(self.address), self.fs.open(self._path(name), "rb") as file:
            yield file

    def _write_new(self, name: str, content: bytes) -> bool:
        """Write a file unless it exists; return whether it was written."""
        path = self._path(name)
        if is_local(self.fs):
            return write_if_absent(Path(path), content)
        with explain_errors(f"{self.address}/{name}"):
            for attempt in range(ATTEMPTS):
                self.fs.invalidate_cache()
                if self.fs.exists(path):
                    return False
                try:
                    self.fs.pipe_file(path, content, mode="create")
                    return True
                except FileExistsError:
                    return False
                except (TypeError, NotImplementedError):
                    break
                except OSError as error:
                    if error.errno == ENOSYS:
                        break
                    if "condition" not in str(error).lower():  # S3 refuses one of two simultaneous creations
                        raise
                time.sleep(0.1 * attempt)
            else:
                raise UserError(f"{self.address}: other processes keep writing {name}; run the command again")
            self.fs.pipe_file(path, content)  # the store cannot create exclusively
            return True

    def _publish(self, source: Path, name: str) -> None:
        """Copy a local file into the archive, where it appears only when it is complete."""
        if is_local(self.fs):
            with atomic_write(Path(self._path(name))) as partial:
                shutil.copyfile(source, partial)
        else:
            with explain_errors(f"{self.address}/{name}"):
                # Object stores publish an object atomically.
                self.fs.pipe_file(self._path(name), source.read_bytes())


def _recording_keys(recordings: pa.Table) -> list[tuple[str, float]]:
    """Return the key of each recording: its path and the start of the section to tag."""
    starts = pc.fill_null(recordings["start"], 0.0)
    return list(zip(recordings["path"].to_pylist(), starts.to_pylist(), strict=True))
