"""Feature files: the rows to extract, and reading and writing the values in HDF5."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from ust.util.digests import digest
from ust.util.errors import UserError
from ust.util.files import atomic_write, check_space
from ust.util.names import SPLITS

ORIGINAL = "original"
KEYS = ("clip", "variant", "split")
CONTENT = "content"
SPARE, SPARE_PER_ROW = 2**20, 256  # bytes
DTYPES = (np.float16, np.float32, np.uint8)
# Exceptions that h5py raises for a corrupt file.
HDF5_ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError)


@dataclass(frozen=True, order=True)
class Row:
    """A row of a feature file: a clip or an augmented variant of it, sorted by clip, then variant."""

    clip: str  # the audio_filename of the annotations
    variant: str  # "original" or the augmentation's name
    split: str
    path: Path  # the audio file


def find_rows(audio: Path, augmented: Path | None = None) -> list[Row]:
    """Find all clips in ``audio/<split>/`` and variants in ``augmented/<variant>/<split>/``, sorted."""
    rows = [
        Row(path.name, ORIGINAL, split, path)
        for split in SPLITS
        for path in audio.glob(f"{split}/*")
        if not path.is_dir()
    ]
    if not rows:
        raise UserError(f"{audio}: no audio files in folders of splits; the stage download makes them")
    if augmented is not None and augmented.is_dir():
        for path in augmented.glob("*/*/*.flac"):
            rows.append(Row(path.stem, path.parts[-3], path.parent.name, path))
    return sorted(rows)


def open_hdf5(path: Path, mode: str = "r") -> h5py.File:
    """Open a feature file without HDF5's file lock, which some network file systems do not support.

    No lock is needed: one process writes a feature file under a temporary name and renames it when it is
    complete. HDF5 lets the environment variable HDF5_USE_FILE_LOCKING override this.
    """
    try:
        return h5py.File(path, mode, locking=False)
    except OSError as error:
        if "unable to lock file" not in str(error):
            raise
        raise UserError(
            f"{path}: cannot be locked, its file system has no file locks ({error}); set the environment "
            "variable HDF5_USE_FILE_LOCKING=FALSE"
        ) from None


def write_features(
    path: Path,
    name: str,
    rows: list[Row],
    contents: list[str],
    values: Iterable[np.ndarray],
    *,
    shape: tuple[int, ...],
    dtype: str,
    attributes: Mapping[str, str | int | float | bool],
) -> None:
    """Write a feature file, row by row as `values` yields them.

    Parameters
    ----------
    name : str
        Name of the HDF5 data set, such as "logmel".
    rows : list of Row
        Sorted.
    contents : list of str
        For each row, a digest of its audio, settings and code.
    values : iterable of numpy.ndarray [shape=shape]
        In the order of `rows`.
    shape : tuple of int
        Shape of a value.
    dtype : str
        Type of a value as stored.
    attributes : mapping
        Parameters of the extraction, stored as attributes of the file.
    """
    text = h5py.string_dtype("utf-8")
    # h5py's default is HDF5's oldest format; newer ones store creation times, so that bytes would differ.
    with atomic_write(path) as partial, open_hdf5(partial, "w") as file:
        file.attrs.update(dict(sorted(attributes.items())))
        for key in KEYS:
            file.create_dataset(key, data=[getattr(row, key) for row in rows], dtype=text)
        file.create_dataset(CONTENT, data=contents, dtype=text)
        # Not compressed: decompressing a row takes longer than reading a pickle (docs/benchmarks.md). The
        # checksum detects flipped bits.
        data = file.create_dataset(name, (len(rows), *shape), dtype, chunks=(1, *shape), fletcher32=True)
        for index, value in enumerate(values):
            # HDF5 crashes on a full disk; it also writes when it closes the file.
            check_space(partial, 2 * data.dtype.itemsize * value.size + SPARE + len(rows) * SPARE_PER_ROW)
            data[index] = value


@dataclass(frozen=True)
class Features:
    """An open feature file.

    Attributes
    ----------
    name : str
        Name of the HDF5 data set.
    clip, variant, split : numpy.ndarray [shape=(n,), object]
        Strings, one per row.
    content : numpy.ndarray [shape=(n,), object]
        For each row, a digest of its audio, settings and code.
    values : h5py.Dataset or numpy.ndarray [shape=(n, …)]
        One row per value; an array for features that are not stored, such as time and place.
    attributes : dict
        Parameters of the extraction.
    cached : numpy.ndarray
        The first rows, held in memory.
    """

    path: Path
    name: str
    clip: np.ndarray
    variant: np.ndarray
    split: np.ndarray
    content: np.ndarray
    values: h5py.Dataset | np.ndarray
    attributes: dict
    cached: np.ndarray

    def digest(self) -> str:
        """Return a digest of the whole file; each row's content digest stands for its value."""
        columns = (getattr(self, key) for key in (*KEYS, CONTENT))
        attributes = [f"{key}={self.attributes[key]}" for key in sorted(self.attributes)]
        return digest(self.name, *attributes, *(str(text) for column in columns for text in column))

    def read_clip(self, clip: str) -> np.ndarray:
        """Return the value of an original clip.

        Raises
        ------
        UserError
            If the file has no such clip.
        """
        rows = np.flatnonzero((self.clip == clip) & (self.variant == ORIGINAL))
        if not len(rows):
            raise UserError(f"{self.path}: has no clip {clip!r}")
        return self[rows][0]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Return rows in the order of `indices`, as stored."""
        indices = np.asarray(indices)
        values = np.empty((len(indices), *self.values.shape[1:]), self.values.dtype)
        in_memory = indices < len(self.cached)
        values[in_memory] = self.cached[indices[in_memory]]
        # Row by row in file order: HDF5 takes ten times as long for a selection of many rows.
        try:
            for position in sorted(np.flatnonzero(~in_memory), key=indices.__getitem__):
                values[position] = self.values[indices[position]]
        except HDF5_ERRORS as error:
            raise UserError(f"{self.path}: damaged ({error}); {_rerun_hint(self.name)}") from None
        return values


@contextmanager
def open_features(path: Path, name: str, *, cache_gib: float = 0) -> Iterator[Features]:
    """Open a feature file for reading.

    Parameters
    ----------
    name : str
        Name of the HDF5 data set.
    cache_gib : float
        GiB of rows to hold in memory, as stored. Other rows are read from the file on every access.

    Raises
    ------
    UserError
        If the file is missing or damaged, or has no such feature.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_hdf5(path))
            missing = [key for key in (*KEYS, CONTENT, name) if not isinstance(file.get(key), h5py.Dataset)]
            if missing:
                raise UserError(
                    f"{path}: not a file of the stage extract@{name} or embed@{name}: "
                    f"has no {', '.join(missing)}"
                )
            keys = {key: file[key].asstr()[:] for key in (*KEYS, CONTENT)}
            values, attributes = file[name], dict(file.attrs)
            if {len(column) for column in keys.values()} != {len(values)}:
                raise UserError(f"{path}: its columns have different numbers of rows")
            if values.dtype not in DTYPES or values.ndim < 2 or not values.size:
                raise UserError(f"{path}: {name} is {values.dtype} {values.shape}; {_rerun_hint(name)}")
            row_bytes = values.dtype.itemsize * int(np.prod(values.shape[1:]))
            cached = values[: int(cache_gib * 2**30 / row_bytes)]
        except FileNotFoundError:
            raise UserError(
                f"{path}: no such file; the stage extract@{name} or embed@{name} makes it"
            ) from None
        except PermissionError:
            raise UserError(f"{path}: cannot be read: permission denied") from None
        except HDF5_ERRORS as error:
            if path.is_dir() or not h5py.is_hdf5(path):
                raise UserError(
                    f"{path}: not an HDF5 file, should be one of the stage extract@{name} or embed@{name}"
                ) from None
            raise UserError(f"{path}: damaged ({error}); {_rerun_hint(name)}") from None
        yield Features(path, name, **keys, values=values, attributes=attributes, cached=cached)


def _rerun_hint(name: str) -> str:
    """Return the advice for a damaged file."""
    return f"delete it and run the stage extract@{name} or embed@{name} again"


@contextmanager
def open_feature_files(
    folder: Path, inputs: Mapping[str, str], *, cache_gib: float = 0
) -> Iterator[dict[str, Features]]:
    """Open the feature file of each input of a network and check that their rows are the same."""
    with ExitStack() as stack:
        opened, remaining_gib = {}, cache_gib
        for name, feature in inputs.items():
            path = folder / f"{feature}.h5"
            opened[name] = stack.enter_context(open_features(path, feature, cache_gib=remaining_gib))
            remaining_gib -= opened[name].cached.nbytes / 2**30
        first, *others = opened.values()
        for other in others:
            if any(not np.array_equal(getattr(first, key), getattr(other, key)) for key in KEYS):
                raise UserError(
                    f"{first.path} and {other.path} are of different clips or variants; "
                    f"extract both from the same audio"
                )
        yield opened


def read_embeddings(path: Path) -> pd.DataFrame:
    """Read the embedding of each original clip as one row, indexed by clip.

    A feature with one embedding per frame is reduced to the mean and maximum over frames.
    """
    with open_features(path, path.stem) as file:
        if "network" not in file.attributes:
            raise UserError(f"{path}: is a spectrogram; this label rule needs an embedding")
        rows = np.flatnonzero(file.variant == ORIGINAL)
        values = file[rows].astype(np.float32)
        if values.ndim > 2:
            values = np.concatenate([values.mean(axis=1), values.max(axis=1)], axis=1)
        return pd.DataFrame(values, index=file.clip[rows].astype(str))
