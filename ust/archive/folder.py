"""An archive's folder: what is to be tagged, and a Parquet file of each kind for every shard.

``archive.json`` says by what model and how; ``recordings.parquet`` lists the recordings, a row group a shard.
``tags/00000.parquet`` … are the tags, ``failures``, ``warnings``, ``events`` and ``embeddings`` what else
there is of a shard. The tags are put there last, and at once: a shard is finished when they are there.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from ust.archive.places import explaining, filesystem, is_local
from ust.archive.recordings import SCHEMA
from ust.files.atomic import replacing
from ust.files.errors import UserError

TAGS, FAILURES, WARNINGS, EVENTS, EMBEDDINGS = "tags", "failures", "warnings", "events", "embeddings"
DESCRIPTION, RECORDINGS = "archive.json", "recordings.parquet"


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
    def everywhere(self) -> str:
        """Its address for workers, who may be in another folder."""
        return self.root if is_local(self.fs) else self.address

    def description(self) -> dict[str, Any] | None:
        """What `begin` was told; None where no archive is begun.

        Raises
        ------
        UserError
            If the folder holds something else.
        """
        with explaining(self.address):
            if self.begun():
                return json.loads(self.fs.cat_file(self._place(DESCRIPTION)))
            if self.fs.exists(self.root) and self.fs.ls(self.root):
                names = [PurePosixPath(path).name for path in self.fs.ls(self.root, detail=False)]
                if set(names) - {RECORDINGS}:
                    raise UserError(
                        f"{self.address}: is no archive of tags, and not empty: {sorted(names)[0]}"
                    )
        return None

    def begun(self) -> bool:
        """Whether there is an archive."""
        return self.fs.exists(self._place(DESCRIPTION))

    def begin(self, recordings: pa.Table, description: Mapping[str, Any], shard_clips: int) -> None:
        """Write down what is to be tagged, and how."""
        with self._writing(RECORDINGS) as path:
            pq.write_table(recordings, path, row_group_size=shard_clips, compression="zstd")
        with self._writing(DESCRIPTION) as path:
            path.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def shards(self) -> int:
        """How many there are."""
        with self._reading(RECORDINGS) as file:
            return pq.ParquetFile(file).num_row_groups

    def recordings(self, shard: int) -> pa.Table:
        """Those of a shard."""
        with self._reading(RECORDINGS) as file:
            return pq.ParquetFile(file).read_row_group(shard).cast(SCHEMA)

    def all_recordings(self) -> pa.Table:
        """Those of all shards."""
        with self._reading(RECORDINGS) as file:
            return pq.read_table(file).cast(SCHEMA)

    def finished(self) -> set[int]:
        """The shards whose tags are there: one listing of names, no file is opened."""
        with explaining(self.address):
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
        with explaining(self.address), self.fs.open(self._place(name), "rb") as file:
            yield file

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """A local file that stands at its place when the block ends: all of it, or none."""
        if is_local(self.fs):
            with replacing(Path(self._place(name))) as partial:
                yield partial
            return
        with TemporaryDirectory(prefix="ust-shard-") as scratch:
            path = Path(scratch, "part")
            yield path
            with explaining(f"{self.address}/{name}"):
                self.fs.pipe_file(self._place(name), path.read_bytes())  # an object is there at once
