"""Writing files so that a half-written one is never taken for a whole one."""

import hashlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOLCK, ENOSPC, ENOSYS, ENOTSUP, EPERM
from pathlib import Path

from filelock import FileLock, Timeout

from ust.util.errors import UserError

PARTIAL = re.compile(r"\.(.+)\.[0-9]+\.partial", re.DOTALL)  # .NAME.PID.partial
NO_LINKS = (EPERM, ENOSYS, ENOTSUP)  # of file systems without hard links
ABANDONED = 24 * 3600  # seconds after which a partial file of `create` is taken for a killed process's

log = logging.getLogger("ust")
_leftovers: dict[Path, dict[str, list[Path]]] = {}  # by folder and name, as found at the first writing there


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
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
    with explain_write_errors(path), temporary_path(path) as partial:
        try:
            yield partial
            move_into_place(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def create(path: Path, content: bytes) -> bool:
    """Write a file unless it exists, atomically also between machines that share the folder.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made when missing.
    content : bytes

    Returns
    -------
    bool
        Whether it was written; False if there was a file, which stays as it is.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own and no lock: machines that share a folder share neither process ids nor locks.
        partial = path.with_name(f".{path.name}.{secrets.randbelow(10**18)}.partial")
        for old in _take_leftovers(path):
            with suppress(FileNotFoundError):
                if time.time() - old.stat().st_mtime > ABANDONED:
                    old.unlink()
        try:
            partial.write_bytes(content)
            _sync(partial)
            try:
                os.link(partial, path)  # fails if the file exists, unlike a rename
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                if path.exists():
                    return False
                partial.replace(path)
            _sync(path.parent)
            return True
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes that call this out of it; wait while one is in it."""
    lock = _lock(folder)
    try:
        _acquire(lock, blocking=False)
    except Timeout:
        log.warning("waiting for another process, which is writing to %s", folder)
        _acquire(lock)
    try:
        folder.mkdir(parents=True, exist_ok=True)  # now: the one that was in it may have moved it away
        yield
    finally:
        lock.release()


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, this process's own; those that killed processes left are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in _take_leftovers(path):
        _remove_abandoned(old)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _own(_lock(partial)):
        yield partial


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Say of an error of the system which file was being written."""
    try:
        yield
    except OSError as error:
        full = error.errno == ENOSPC or "No space left" in str(error)
        reason = "no space is left on the disk" if full else error.strerror or error
        raise UserError(f"{path}: cannot be written: {reason}") from error


def move_into_place(partial: Path, path: Path) -> None:
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


def _acquire(lock: FileLock, *, blocking: bool = True) -> None:
    """Acquire a lock.

    Raises
    ------
    UserError
        If the file system of the lock's file has no locks.
    filelock.Timeout
        If it is held by another process and not `blocking`.
    """
    try:
        lock.acquire(blocking=blocking)
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in (ENOLCK, ENOTSUP):
            raise
        raise UserError(
            f"{Path(lock.lock_file).parent}: this file system has no file locks ({error.strerror}), as some "
            "network file systems; set the environment variable TMPDIR to a folder on a local disk"
        ) from None


@contextmanager
def _own(lock: FileLock) -> Iterator[None]:
    """Hold the lock of a path that nobody else will write to; its file goes with it."""
    _acquire(lock)
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def _take_leftovers(path: Path) -> list[Path]:
    """Return the partial files of `path` that were there when this process first wrote to its folder.

    A process lists a folder once: listing it for each file would make writing n files quadratic in n.
    Partial files of other names stay: another machine may be writing them, and locks are of one machine.
    """
    folder = path.parent.absolute()
    if folder not in _leftovers:
        found: dict[str, list[Path]] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                if match := PARTIAL.fullmatch(entry.name):
                    found.setdefault(match[1], []).append(folder / entry.name)
        _leftovers[folder] = found
    return _leftovers[folder].pop(path.name, [])


def _remove_abandoned(partial: Path) -> None:
    """Remove what a process was writing, unless it still does: then it holds the lock."""
    lock = _lock(partial)
    try:
        _acquire(lock, blocking=False)
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
