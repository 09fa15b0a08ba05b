"""Writing files so that a half-written one is never taken for a whole one."""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from glob import escape
from pathlib import Path
from typing import Any

import psutil

from ust.errors import UserError

log = logging.getLogger("ust")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it over `path` when the block ends without error.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made when missing.

    Yields
    ------
    Path
        ``.NAME.PID.partial`` in the same folder; removed if the block raises.

    Raises
    ------
    UserError
        If it cannot be written; what was at `path` is then as it was.
    """
    with _explaining(path):
        partial = _partial(path)
        try:
            yield partial
            _move(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: yield an empty one beside `path`, which takes its place at the end."""
    with _explaining(path):
        partial = _partial(path)
        partial.mkdir()
        try:
            yield partial
            _move(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resuming_folder(path: Path, key: str) -> Iterator[tuple[Path, Path]]:
    """The same for a folder that takes long: a run goes on from what one of the same key left when cut short.

    Parameters
    ----------
    path : Path
    key : str
        Stands for everything that what is written depends on.

    Yields
    ------
    folder, state : Path
        The folder that takes the place of `path`, and one in it, for what is needed to go on, which does not.
    """
    partial = path.with_name(f".{path.name}.partial")
    state = partial / ".state"
    with _explaining(path), exclusive(partial):
        if not (state / key).is_file():
            for old in partial.iterdir():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            state.mkdir()
            (state / key).touch()
        yield partial, state
        shutil.rmtree(state)
        _move(partial, path)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes that call this out of it; wait while one is in it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("waiting for another process, which is writing to %s", folder)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The one that was in it may have moved it away.
            if folder.is_dir() and os.path.samestat(os.fstat(descriptor), folder.stat()):
                yield
                return
        finally:
            os.close(descriptor)


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Say of an error of the system which file was being written."""
    try:
        yield
    except OSError as error:
        full = error.errno == ENOSPC or "No space left" in str(error)
        reason = "no space is left on the disk" if full else error.strerror or error
        raise UserError(f"{path}: cannot be written: {reason}") from error


def _partial(path: Path) -> Path:
    """A temporary path for this process; those that killed processes left are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".{escape(path.name)}.*.partial"):
        if not _runs(old.suffixes[-2]):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _runs(suffix: str) -> bool:
    """Whether the process of a suffix ".PID" runs; a killed one whose end nobody asked for does not."""
    try:
        return psutil.Process(int(suffix[1:])).status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.AccessDenied:
        return True


def _move(partial: Path, path: Path) -> None:
    _sync(partial)
    if partial.is_dir() and path.is_dir():
        shutil.rmtree(path)
    partial.replace(path)
    _sync(path.parent)


def check_space(path: Path, size: int) -> None:
    """Check that a disk has room, for libraries that do not survive a full one.

    Raises
    ------
    OSError
        If fewer than `size` bytes are free where `path` lies.
    """
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(ENOSPC, os.strerror(ENOSPC), str(path))


def write_json(path: Path, content: Any) -> None:
    """Write JSON with a fixed layout: the same content gives the same bytes."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a mapping from a JSON file that the stage `made_by` writes.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage {made_by} makes it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run the stage {made_by} again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged; delete it and run the stage {made_by} again")
    return content
