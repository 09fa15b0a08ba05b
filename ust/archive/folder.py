"""An archive's folder: what is to be tagged, and a Parquet file of each kind for every shard.

``archive.json`` says by what model and how; ``recordings.parquet`` lists the recordings, a row group a shard.
``recordings-00005.parquet`` lists those found later, from shard 5 on. A list never changes.
``tags/00000.parquet`` … are the tags, ``failures``, ``warnings``, ``events`` and ``embeddings`` what else
there is of a shard. The tags are put there last, and at once: a shard is finished when they are there.
"""

import json
import re
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

from ust.archive.filesystems import explain_errors, filesystem, is_local
from ust.archive.recordings import SCHEMA
from ust.util.errors import UserError
from ust.util.files import atomic_write, write_if_absent

TAGS, FAILURES, WARNINGS, EVENTS, EMBEDDINGS = "tags", "failures", "warnings", "events", "embeddings"
DESCRIPTION, RECORDINGS = "archive.json", "recordings.parquet"
LIST = re.compile(r"recordings(?:-(\d+))?\.parquet")
ATTEMPTS = 40  # to add a list while other processes do, with pauses of up to 4 seconds


class Archive:
    """A folder of tags, here or wherever fsspec writes.

    Parameters
    ----------
    address : str
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.fs, self.root = filesystem(address)

    @property
    def absolute_address(self) -> str:
        """Its address for workers, who may be in another folder."""
        return self.root if is_local(self.fs) else self.address

    def description(self) -> dict[str, Any] | None:
        """What `begin` was told; None where no archive is begun.

        Raises
        ------
        UserError
            If the folder holds something else.
        """
        with explain_errors(self.address):
            self.fs.invalidate_cache()
            if not self.exists() and self.fs.exists(self.root):
                names = [PurePosixPath(path).name for path in self.fs.ls(self.root, detail=False)]
                others = [name for name in names if not name.endswith(".partial")]
                if others and not self.exists():  # another process may have begun it meanwhile
                    raise UserError(f"{self.address}: is no archive of tags, and not empty: {min(others)}")
            return json.loads(self.fs.cat_file(self._place(DESCRIPTION))) if self.exists() else None

    def exists(self) -> bool:
        """Whether there is an archive."""
        return self.fs.exists(self._place(DESCRIPTION))

    def begin(self, description: Mapping[str, Any]) -> None:
        """Write down how recordings are to be tagged, unless another process has done so."""
        text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
        self._create(DESCRIPTION, text.encode())

    def add(self, recordings: pa.Table, shard_clips: int) -> tuple[int, list[str]]:
        """List the recordings that are not listed yet, as new shards; earlier shards stay as they are.

        Processes on any number of machines may do this at the same time. Each list is a new file, named by
        its first shard and created by one process alone; the others then look again for what is not listed.

        Parameters
        ----------
        recordings : pyarrow.Table
            All there are now, sorted.
        shard_clips : int
            Recordings a shard.

        Returns
        -------
        new : int
            How many were not listed.
        gone : list of str
            Paths that are listed and not among `recordings`.

        Raises
        ------
        UserError
            If the archive cannot be written to.
        """
        keys = _keys(recordings)
        for attempt in range(ATTEMPTS):
            lists = self._lists()
            listed = {key for _, name in lists for key in self._read_keys(name)}
            new = recordings.filter(pa.array([key not in listed for key in keys], pa.bool_()))
            gone = sorted({path for path, _ in listed} - {path for path, _ in keys})
            if not len(new):
                return 0, gone
            buffer = pa.BufferOutputStream()
            pq.write_table(new, buffer, row_group_size=shard_clips, compression="zstd")
            if self._create(_list_name(self._shards(lists)), buffer.getvalue().to_pybytes()):
                return len(new), gone
            time.sleep(0.1 * attempt)  # until the other process's file is seen here, too
        raise UserError(f"{self.address}: other processes keep adding recordings; run the command again")

    def add_lists_of(self, other: "Archive") -> None:
        """List what another archive lists, in the same shards."""
        for _, name in other._lists():
            with other._reading(name) as file:
                self._create(name, file.read())

    def shards(self) -> int:
        """How many there are."""
        return self._shards(self._lists())

    def recordings(self, shard: int) -> pa.Table:
        """Those of a shard."""
        first, name = max(each for each in self._lists() if each[0] <= shard)
        with self._reading(name) as file:
            return pq.ParquetFile(file).read_row_group(shard - first).cast(SCHEMA)

    def _lists(self) -> list[tuple[int, str]]:
        """The first shard and the name of each list of recordings, in order."""
        with explain_errors(self.address):
            self.fs.invalidate_cache()
            names = [PurePosixPath(path).name for path in self.fs.ls(self.root, detail=False)]
        found = [(int(match[1] or 0), name) for name in names if (match := LIST.fullmatch(name))]
        return sorted(found)

    def _shards(self, lists: list[tuple[int, str]]) -> int:
        """The number of shards in some lists."""
        if not lists:
            return 0
        first, name = lists[-1]
        with self._reading(name) as file:
            return first + pq.ParquetFile(file).num_row_groups

    def _read_keys(self, name: str) -> list[tuple[str, float]]:
        with self._reading(name) as file:
            return _keys(pq.read_table(file, columns=["path", "start"]))

    def finished(self) -> set[int]:
        """The shards whose tags are there: one listing of names, no file is opened."""
        with explain_errors(self.address):
            self.fs.invalidate_cache()
            folder = self._place(TAGS)
            paths = self.fs.ls(folder, detail=False) if self.fs.exists(folder) else []
        stems = [PurePosixPath(path).stem for path in paths if path.endswith(".parquet")]
        return {int(stem) for stem in stems if stem.isdigit()}

    @contextmanager
    def parts(self, shard: int, schemas: Mapping[str, pa.Schema]) -> Iterator[dict[str, pq.ParquetWriter]]:
        """Writers of a shard's files, of which all are put into place when the block ends, the tags last."""
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
                with self._writing(self.part(kind, shard)) as path:
                    path.write_bytes(paths[kind].read_bytes())

    @staticmethod
    def part(kind: str, shard: int) -> str:
        """The name of a shard's file."""
        return f"{kind}/{shard:05}.parquet"

    def dataset(self, kind: str) -> pyarrow.dataset.Dataset:
        """What is there of a kind, of finished shards alone, to be read bit by bit.

        Raises
        ------
        UserError
            If there is nothing.
        """
        paths = [self._place(self.part(kind, shard)) for shard in sorted(self.finished())]
        if not paths:
            raise UserError(f"{self.address}: no shard is finished; tag the archive first")
        return pyarrow.dataset.dataset(paths, filesystem=self.fs, format="parquet")

    def read(self, kind: str, shard: int) -> pa.Table:
        """A shard's file."""
        with self._reading(self.part(kind, shard)) as file:
            return pq.read_table(file)

    def has(self, kind: str, shard: int) -> bool:
        """Whether there is a shard's file of a kind: older archives have fewer."""
        return self.fs.exists(self._place(self.part(kind, shard)))

    def _place(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    @contextmanager
    def _reading(self, name: str) -> Iterator[BinaryIO]:
        with explain_errors(self.address), self.fs.open(self._place(name), "rb") as file:
            yield file

    def _create(self, name: str, content: bytes) -> bool:
        """Write a file unless it exists; whether it was written."""
        place = self._place(name)
        if is_local(self.fs):
            return write_if_absent(Path(place), content)
        with explain_errors(f"{self.address}/{name}"):
            for attempt in range(ATTEMPTS):
                self.fs.invalidate_cache()
                if self.fs.exists(place):
                    return False
                try:
                    self.fs.pipe_file(place, content, mode="create")
                    return True
                except FileExistsError:
                    return False
                except (TypeError, NotImplementedError):
                    break
                except OSError as error:
                    if error.errno == ENOSYS:
                        break
                    if "condition" not in str(error).lower():  # S3 refuses one of two that create at once
                        raise
                time.sleep(0.1 * attempt)
            self.fs.pipe_file(place, content)  # the store cannot create exclusively
            return True

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """A local file that stands at its place when the block ends: all of it, or none."""
        if is_local(self.fs):
            with atomic_write(Path(self._place(name))) as partial:
                yield partial
            return
        with TemporaryDirectory(prefix="ust-shard-") as scratch:
            path = Path(scratch, "part")
            yield path
            with explain_errors(f"{self.address}/{name}"):
                self.fs.pipe_file(self._place(name), path.read_bytes())  # an object is there at once


def _keys(recordings: pa.Table) -> list[tuple[str, float]]:
    """What each recording to tag is known by: its path, and where the part to tag begins."""
    starts = pc.fill_null(recordings["start"], 0.0)
    return list(zip(recordings["path"].to_pylist(), starts.to_pylist(), strict=True))


def _list_name(first: int) -> str:
    """The name of the list whose first shard has a number."""
    return f"recordings-{first:05}.parquet" if first else RECORDINGS
