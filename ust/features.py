"""Feature files: HDF5 with one row per clip and variant, written and read without holding them all."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ust.errors import UserError
from ust.files import replacing

ORIGINAL = "original"
KEYS = ("clip", "variant", "split")


@dataclass(frozen=True, order=True)
class Row:
    """What a feature row is of; rows are sorted by clip, then variant.

    Attributes
    ----------
    clip : str
        The audio_filename of the annotations.
    variant : str
        "original" or the augmentation's name.
    split : str
    path : Path
        The audio file.
    """

    clip: str
    variant: str
    split: str
    path: Path


def find_rows(audio: Path, augmented: Path | None = None) -> list[Row]:
    """All clips of ``audio/<split>/`` and variants of ``augmented/<variant>/<split>/``, sorted.

    Raises
    ------
    UserError
        If there is no audio.
    """
    rows = [
        Row(path.name, ORIGINAL, path.parent.name, path) for path in audio.glob("*/*") if not path.is_dir()
    ]
    if not rows:
        raise UserError(f"{audio}: no audio files in folders of splits; the stage download makes them")
    if augmented is not None and augmented.is_dir():
        for path in augmented.glob("*/*/*.flac"):
            rows.append(Row(path.stem, path.parts[-3], path.parent.name, path))
    return sorted(rows)


def write_features(
    path: Path,
    name: str,
    rows: list[Row],
    values: Iterable[np.ndarray],
    *,
    shape: tuple[int, ...],
    dtype: str,
    attributes: Mapping[str, str | int | float | bool],
) -> None:
    """Write a feature file, row by row as `values` yields them.

    Parameters
    ----------
    path : Path
    name : str
        Of the data set, such as "logmel".
    rows : list of Row
        Sorted.
    values : iterable of numpy.ndarray [shape=shape]
        In the order of `rows`.
    shape, dtype
        Of one row as stored.
    attributes : mapping
        Stored with the file: every parameter of the extraction.
    """
    text = h5py.string_dtype("utf-8")
    # HDF5's oldest format, h5py's default: the newer ones store when a group was made.
    with replacing(path) as partial, h5py.File(partial, "w") as file:
        file.attrs.update(dict(sorted(attributes.items())))
        for key in KEYS:
            file.create_dataset(key, data=[getattr(row, key) for row in rows], dtype=text)
        data = file.create_dataset(name, (len(rows), *shape), dtype, chunks=(1, *shape))
        for index, value in enumerate(values):
            data[index] = value


@dataclass(frozen=True)
class Features:
    """An open feature file.

    Attributes
    ----------
    clip, variant, split : numpy.ndarray [shape=(n,), object]
        Strings.
    values : h5py.Dataset [shape=(n, …)]
    attributes : dict
    cached : numpy.ndarray
        The first rows, in memory.
    """

    clip: np.ndarray
    variant: np.ndarray
    split: np.ndarray
    values: h5py.Dataset
    attributes: dict
    cached: np.ndarray

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Rows in the order asked, as stored."""
        # HDF5 wants increasing indices, each once.
        increasing, places = np.unique(indices, return_inverse=True)
        split = np.searchsorted(increasing, len(self.cached))
        found = self.cached[increasing[:split]]
        if split < len(increasing):
            # Row by row: a selection of many rows at once takes HDF5 ten times as long.
            rows = [self.values[index] for index in increasing[split:]]
            found = np.concatenate([found, np.stack(rows)])
        return found[places]


@contextmanager
def open_features(path: Path, name: str, *, cache_gib: float = 0) -> Iterator[Features]:
    """Open a feature file for reading.

    Parameters
    ----------
    path : Path
    name : str
        Of the data set.
    cache_gib : float
        GiB of rows to keep in memory, as stored; the others are read each time they are asked for.

    Raises
    ------
    UserError
        If the file is missing, damaged or does not hold the feature.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage extract_{name} makes it") from None
    except OSError as error:
        raise UserError(
            f"{path}: damaged ({error}); delete it and run the stage extract_{name} again"
        ) from None
    with file:
        missing = [key for key in (*KEYS, name) if key not in file]
        if missing:
            raise UserError(f"{path}: not a file of the stage extract_{name}: has no {', '.join(missing)}")
        keys = {key: file[key].asstr()[:] for key in KEYS}
        if {len(keys["clip"]), len(keys["variant"]), len(keys["split"]), len(file[name])} != {
            len(keys["clip"])
        }:
            raise UserError(f"{path}: clip, variant, split and {name} have different numbers of rows")
        values = file[name]
        row_bytes = values.dtype.itemsize * int(np.prod(values.shape[1:]))
        cached = values[: int(cache_gib * 2**30 / row_bytes)]
        yield Features(**keys, values=values, attributes=dict(file.attrs), cached=cached)


def check_same_rows(first: Features, second: Features) -> None:
    """Check that two feature files are of the same clips.

    Raises
    ------
    UserError
        If they are not.
    """
    for key in KEYS:
        if not np.array_equal(getattr(first, key), getattr(second, key)):
            raise UserError(
                "the log-mel and VGGish files are of different clips or variants; "
                "run extract_logmel and extract_vggish on the same audio"
            )
