"""Writing files so that a half-written one is never taken for a whole one."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOSPC
from glob import escape
from pathlib import Path

from filelock import FileLock, Timeout

from ust.files.errors import UserError

log = logging.getLogger("ust")


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
    if path.is_dir():
        raise UserError(f"{path}: is a folder, should be the name of a file to write")
    with explaining(path), temporary(path) as partial:
        try:
            yield partial
            move(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes that call this out of it; wait while one is in it."""
    lock = _lock(folder)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.warning("waiting for another process, which is writing to %s", folder)
        lock.acquire()
    try:
        folder.mkdir(parents=True, exist_ok=True)  # now: the one that was in it may have moved it away
        yield
    finally:
        lock.release()


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, this process's own; those that killed processes left are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".{escape(path.name)}.*.partial"):
        owner = old.name.removeprefix(f".{path.name}.").removesuffix(".partial")
        if owner.isascii() and owner.isdigit():
            _remove_abandoned(old)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _own(_lock(partial)):
        yield partial


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Say of an error of the system which file was being written."""
    try:
        yield
    except OSError as error:
        full = error.errno == ENOSPC or "No space left" in str(error)
        reason = "no space is left on the disk" if full else error.strerror or error
        raise UserError(f"{path}: cannot be written: {reason}") from error


def move(partial: Path, path: Path) -> None:
    """Put what is complete, and on the disk, into its place."""
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


def _lock(path: Path) -> FileLock:
    """The lock of a path; its file lies apart, so that no folder of outputs is littered."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir(), f"ust-locks-{user}")
    folder.mkdir(exist_ok=True)
    return FileLock(folder / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()}.lock")


@contextmanager
def _own(lock: FileLock) -> Iterator[None]:
    """Hold the lock of a path that nobody else will write to; its file goes with it."""
    with lock:
        try:
            yield
        finally:
            with suppress(OSError):
                Path(lock.lock_file).unlink()


def _remove_abandoned(partial: Path) -> None:
    """Remove what a process was writing, unless it still does: then it holds the lock."""
    lock = _lock(partial)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return
    try:
        with _own(lock):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
    finally:
        lock.release()


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folder
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
