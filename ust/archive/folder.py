"""The folder of an archive: the recordings to tag and, for each shard, Parquet files with the results.

``archive.json`` describes the system and the settings. ``recordings.parquet`` lists the recordings, one row
group per shard; ``recordings-00005.parquet`` lists recordings added later, from shard 5 on. A list never
changes. A recording that failed may be listed again; the last shard that lists it counts.

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
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from ust.archive.filesystems import explain_errors, is_local, resolve_address
from ust.archive.recordings import SCHEMA
from ust.util.errors import UserError, plural, single_line
from ust.util.files import atomic_write, write_if_absent

TAGS, FAILURES, WARNINGS, EVENTS, EMBEDDINGS = "tags", "failures", "warnings", "events", "embeddings"
DESCRIPTION, RECORDINGS = "archive.json", "recordings.parquet"
LIST_NAME = re.compile(r"recordings(?:-(\d+))?\.parquet")
ATTEMPTS = 40  # to create a file while other processes do the same, with growing pauses of up to 4 seconds


Key = tuple[str, float]  # of a recording: its path and the start of the section to tag


class Additions(NamedTuple):
    """What `Archive.add_recordings` found in a source."""

    new: int  # recordings that were not listed
    failed: int  # recordings that could not be tagged; listed again if wanted
    missing: list[str]  # paths of other listed recordings that the source no longer has


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
            if not self.exists():
                return None
            try:
                return json.loads(self.fs.cat_file(self._path(DESCRIPTION)))
            except ValueError as error:
                raise UserError(
                    f"{self.address}/{DESCRIPTION}: is not valid JSON ({single_line(error)}); restore it "
                    "from a copy, or tag the recordings to another folder"
                ) from None

    def exists(self) -> bool:
        """Return whether the archive has been created."""
        with explain_errors(self.address):
            return self.fs.exists(self._path(DESCRIPTION))

    def create(self, description: Mapping[str, Any]) -> None:
        """Write the description of the system and the settings, unless another process has done so."""
        text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
        self._write_new(DESCRIPTION, text.encode())

    def add_recordings(self, recordings: pa.Table, shard_clips: int, *, retry: bool = False) -> Additions:
        """Append recordings that are not listed yet, as new shards, and those that failed if `retry` is set.

        Existing shards do not change. Processes on any number of machines may call this at the same time.
        Each list is a new file, named after its first shard and created exclusively by one process; the
        other processes then compare their recordings with the lists again.
        """
        keys = _recording_keys(recordings)
        failures = self._read_failures()
        for attempt in range(ATTEMPTS):
            lists = self._find_lists()
            shards = self._find_shards(lists)
            # A failure counts in the last shard that lists the recording, and only until it is listed again.
            failed = {key for key, shard in failures if shards.get(key) == shard}
            missing = sorted({path for path, _ in shards.keys() - failed} - {path for path, _ in keys})
            found = Additions(len(set(keys) - shards.keys()), len(failed.intersection(keys)), missing)
            chosen = [key not in shards or (retry and key in failed) for key in keys]
            if not any(chosen):
                return found
            buffer = pa.BufferOutputStream()
            pq.write_table(
                recordings.filter(pa.array(chosen)), buffer, row_group_size=shard_clips, compression="zstd"
            )
            first = self._count_shards(lists)
            name = f"recordings-{first:05}.parquet" if first else RECORDINGS
            if self._write_new(name, buffer.getvalue().to_pybytes()):
                return found
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

    def _find_shards(self, lists: list[tuple[int, str]]) -> dict[Key, int]:
        """Return the last shard that lists each recording."""
        shards: dict[Key, int] = {}
        for first, name in lists:
            with self._open(name) as file:
                parquet = pq.ParquetFile(file)
                for group in range(parquet.num_row_groups):
                    keys = _recording_keys(parquet.read_row_group(group, columns=["path", "start"]))
                    shards |= dict.fromkeys(keys, first + group)
        return shards

    def _read_failures(self) -> list[tuple[Key, int]]:
        """Return the recordings that could not be tagged, each with its shard."""
        if not self.finished_shards():
            return []
        with self._explain_damage(FAILURES):
            failures = self.dataset(FAILURES).to_table(["path", "start", "__filename"])
        shards = [int(PurePosixPath(name).stem) for name in failures["__filename"].to_pylist()]
        return list(zip(_recording_keys(failures), shards, strict=True))

    def describe_progress(self) -> str | None:
        """Return how much of the archive is tagged; None if all of it or nothing is tagged."""
        sizes = {}
        for first, name in self._find_lists():
            with self._open(name) as file:
                metadata = pq.ParquetFile(file).metadata
            groups = range(metadata.num_row_groups)
            sizes |= {first + group: metadata.row_group(group).num_rows for group in groups}
        finished = self.finished_shards() & sizes.keys()
        if not finished or len(finished) == len(sizes):
            return None
        tagged = sum(sizes[shard] for shard in finished)
        return (
            f"{len(finished):,} of {plural(len(sizes), 'shard')} are tagged ({tagged:,} of "
            f"{plural(sum(sizes.values()), 'recording')})"
        )

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
        with self._explain_damage(kind):
            return pyarrow.dataset.dataset(paths, filesystem=self.fs, format="parquet")

    @contextmanager
    def _explain_damage(self, kind: str) -> Iterator[None]:
        """Turn errors of pyarrow into a message that names the damaged file."""
        try:
            yield
        except (pa.ArrowException, OSError):
            self.check_files(kind)
            raise

    def check_files(self, kind: str) -> None:
        """Read the files of one kind, and name the first that is damaged and how to restore it."""
        for shard in sorted(self.finished_shards()):
            try:
                self.read(kind, shard)
            except UserError as error:
                raise UserError(
                    f"{error}; delete {self.address}/{self.shard_file(TAGS, shard)} and run ust tag-archive "
                    "again, which tags the recordings of this shard again"
                ) from None

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
        with explain_errors(f"{self.address}/{name}"), self.fs.open(self._path(name), "rb") as file:
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


def _recording_keys(recordings: pa.Table) -> list[Key]:
    """Return the key of each recording."""
    starts = pc.fill_null(recordings["start"], 0.0)
    return list(zip(recordings["path"].to_pylist(), starts.to_pylist(), strict=True))
