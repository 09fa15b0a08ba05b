"""Atomic file writes and locks: a reader never sees a half-written file."""

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
NO_HARD_LINKS = (EPERM, ENOSYS, ENOTSUP)  # errors of file systems without hard links
ABANDONED_SECONDS = 24 * 3600  # older partial files of `write_if_absent` belong to killed processes

log = logging.getLogger("ust")
# Partial files of earlier processes, by folder and file name; each folder is listed at its first write.
_leftovers: dict[Path, dict[str, list[Path]]] = {}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without error."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, should be the path of a file to write")
    with explain_write_errors(path), temporary_path(path) as partial:
        try:
            yield partial
            move_into_place(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    with atomic_write(path) as partial:
        partial.write_text(text, "utf-8")


def write_if_absent(path: Path, content: bytes) -> bool:
    """Write a file unless it exists; atomic even between machines that share the folder."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A random name and no lock: process ids and locks are not unique across machines that share a folder.
        partial = path.with_name(f".{path.name}.{secrets.randbelow(10**18)}.partial")
        for old in _take_leftovers(path):
            with suppress(FileNotFoundError):
                if time.time() - old.stat().st_mtime > ABANDONED_SECONDS:
                    old.unlink()
        try:
            partial.write_bytes(content)
            _sync(partial)
            try:
                os.link(partial, path)  # fails if the file exists, unlike a rename
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_HARD_LINKS:
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
    """Create a folder and hold its lock; wait while another process holds it."""
    lock = _lock(folder)
    try:
        _acquire(lock, blocking=False)
    except Timeout:
        log.warning("waiting for another process, which is writing to %s", folder)
        _acquire(lock)
    try:
        # Created after waiting, because the previous holder may have renamed the folder.
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        lock.release()


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield this process's temporary path beside `path`; those of killed processes are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in _take_leftovers(path):
        _remove_abandoned(old)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _hold_and_delete(_lock(partial)):
        yield partial


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into a `UserError` that names the file being written.

    Errors of files in other folders, such as inputs, are raised unchanged.
    """
    try:
        yield
    except OSError as error:
        full = error.errno == ENOSPC or "No space left" in str(error)
        if not full and isinstance(error.filename, str) and not _is_beside(Path(error.filename), path):
            raise
        reason = "no space is left on the disk" if full else error.strerror or error
        raise UserError(f"{path}: cannot be written: {reason}") from error


def _is_beside(file: Path, path: Path) -> bool:
    """Return whether a file is in the folder of `path` or below it."""
    return any(file.absolute().is_relative_to(each.parent) for each in (path.absolute(), path.resolve()))


def move_into_place(partial: Path, path: Path) -> None:
    """Flush a completed file or folder to disk and rename it to `path`, replacing an existing one."""
    _sync(partial)
    old = path.with_name(f".{path.name}.old.partial")
    if partial.is_dir() and path.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        path.replace(old)  # kept until the new folder is in place
    partial.replace(path)
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def check_space(path: Path, size: int) -> None:
    """Check the free space of a disk; for libraries that crash when a disk is full."""
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(ENOSPC, os.strerror(ENOSPC), str(path))


def _lock(path: Path) -> FileLock:
    """Return the lock of a path; lock files are kept in a temporary folder, not among the outputs."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir(), f"ust-locks-{user}")
    folder.mkdir(exist_ok=True)
    return FileLock(folder / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()}.lock")


def _acquire(lock: FileLock, *, blocking: bool = True) -> None:
    """Acquire a lock; explain the error of a file system without locks."""
    try:
        lock.acquire(blocking=blocking)
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in (ENOLCK, ENOTSUP):
            raise
        raise UserError(
            f"{Path(lock.lock_file).parent}: this file system has no file locks ({error.strerror}), like "
            "some network file systems; set the environment variable TMPDIR to a folder on a local disk"
        ) from None


@contextmanager
def _hold_and_delete(lock: FileLock) -> Iterator[None]:
    """Hold a lock, then delete its file; only for paths that no other process will lock."""
    _acquire(lock)
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def _take_leftovers(path: Path) -> list[Path]:
    """Return partial files of `path` that existed when this process first wrote to its folder.

    The folder is listed once per process, because listing it for each file would make writing n files
    quadratic in n. Partial files of other names are kept: another machine may be writing them.
    """
    folder = path.parent.absolute()
    if folder not in _leftovers:
        partials: dict[str, list[Path]] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                if match := PARTIAL.fullmatch(entry.name):
                    partials.setdefault(match[1], []).append(folder / entry.name)
        _leftovers[folder] = partials
    return _leftovers[folder].pop(path.name, [])


def _remove_abandoned(partial: Path) -> None:
    """Remove a partial file or folder unless its writer still runs, and so holds the lock."""
    lock = _lock(partial)
    try:
        _acquire(lock, blocking=False)
    except Timeout:
        return
    try:
        with _hold_and_delete(lock):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
    finally:
        lock.release()


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
