"""Feature values that need not be computed again, by the digest of what they come from."""

import io
import shutil
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from ust.features.store import CONTENT, DAMAGED, open_hdf5
from ust.files.atomic import replacing
from ust.files.errors import UserError


class Finished:
    """Values in a feature file as it stands, and those kept by a run that did not come to its end.

    Parameters
    ----------
    path : Path
        The feature file; may be missing, damaged or of another method.
    name : str
        Of its data set.
    shape, dtype
        Of a value.

    Attributes
    ----------
    parts : Path
        Folder of what was kept, beside the feature file.
    """

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, np.dtype(dtype)
        self.parts = path.with_name(f".{path.name}.parts")
        self._file: h5py.File | None = None
        self._rows: dict[str, int] = {}
        try:
            self._file = open_hdf5(path)
            self._rows = {content: i for i, content in enumerate(self._file[CONTENT].asstr()[:])}
        except DAMAGED:
            pass  # nothing to be had from it

    def close(self) -> None:
        """Close the feature file."""
        if self._file is not None:
            self._file.close()

    def __contains__(self, content: str) -> bool:
        if self._part(content).is_file():
            return self._load_part(content) is not None
        return content in self._rows and self._load_row(content) is not None

    def __getitem__(self, content: str) -> np.ndarray:
        """The value of a content that is there.

        Raises
        ------
        UserError
            If it has gone meanwhile.
        """
        value = self._load_part(content)
        if value is None:
            value = self._load_row(content)
        if value is None:
            raise UserError(f"{self.parts}: values computed a moment ago are gone; run the stage again")
        return value

    def keep(self, content: str, value: np.ndarray) -> None:
        """Put a value where a later run finds it."""
        buffer = io.BytesIO()  # NumPy does not say why it cannot write to a file
        np.save(buffer, value.astype(self.dtype, copy=False), allow_pickle=False)
        with replacing(self._part(content)) as partial:
            partial.write_bytes(buffer.getbuffer())

    def discard_parts(self) -> None:
        """Remove what `keep` kept."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def leave(self) -> None:
        """Leave what `keep` kept to a later run; nothing at all if it kept nothing."""
        with suppress(OSError):
            self.parts.rmdir()

    def _part(self, content: str) -> Path:
        return self.parts / f"{content}.npy"

    def _load_part(self, content: str) -> np.ndarray | None:
        try:
            return self._fitting(np.load(self._part(content), allow_pickle=False))
        except (OSError, ValueError, EOFError):
            return None

    def _load_row(self, content: str) -> np.ndarray | None:
        try:
            return self._fitting(self._file[self.name][self._rows[content]])
        except DAMAGED:
            return None

    def _fitting(self, value: np.ndarray) -> np.ndarray | None:
        return value if (value.shape, value.dtype) == (self.shape, self.dtype) else None
