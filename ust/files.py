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

from ust.errors import UserError, some

MANIFEST = ".manifest.json"
STATE = ".state"
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
    if path.is_dir():
        raise UserError(f"{path}: is a folder, should be the name of a file to write")
    with _explaining(path):
        partial = _partial(path)
        try:
            yield partial
            _move(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, *, by: str, force: bool = False) -> Iterator[Path]:
    """The same for a folder: yield an empty one beside `path`, which takes its place at the end.

    Parameters
    ----------
    path : Path
    by : str
        The stage that writes it; it says so in a manifest in the folder, with the files' names.
    force : bool
        Replace what is there even if the stage did not write it.

    Raises
    ------
    UserError
        As `check_replaceable`, or if it cannot be written.
    """
    check_replaceable(path, by=by, force=force)
    place = path.resolve()
    with _explaining(path):
        partial = _partial(place)
        partial.mkdir()
        try:
            yield partial
            _finish(partial, path, by=by, force=force)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resuming_folder(path: Path, key: str, *, by: str, force: bool = False) -> Iterator[tuple[Path, Path]]:
    """The same for a folder that takes long: a run goes on from what one of the same key left when cut short.

    Parameters
    ----------
    path : Path
    key : str
        Stands for everything that what is written depends on.
    by, force
        See `replacing_folder`.

    Yields
    ------
    folder, state : Path
        The folder that takes the place of `path`, and one in it, for what is needed to go on, which does not.
    """
    check_replaceable(path, by=by, force=force)
    place = path.resolve()
    partial = place.with_name(f".{place.name}.partial")
    state = partial / STATE
    with _explaining(path), exclusive(partial):
        if not (state / key).is_file():
            if not state.is_dir() and _files(partial) - _written(partial, by):
                raise UserError(f"{partial}: holds files that {by} did not write; move them away")
            # The state last: without it, what is left would be taken for somebody else's.
            for old in sorted(partial.iterdir(), key=lambda inside: inside == state):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            state.mkdir()
            (state / key).touch()
        yield partial, state
        _finish(partial, path, by=by, force=force)


def check_replaceable(path: Path, *, by: str, force: bool = False) -> None:
    """Check that nothing is lost when a folder is replaced: it is new, empty, or all of it `by`'s own.

    Parameters
    ----------
    path : Path
    by : str
        The stage that is to write it.
    force : bool
        Let go of what others wrote; never of the working or the home folder, or one that they lie in.

    Raises
    ------
    UserError
        If it is to be kept, or is a file.
    """
    place = path.resolve()
    for what, kept in (("working folder", Path.cwd()), ("home folder", Path.home().resolve())):
        if kept == place or place in kept.parents:
            raise UserError(
                f"{path}: holds the {what}, and {by} replaces all that is in its output; name another"
            )
    if not place.is_dir():
        if place.exists():
            raise UserError(f"{path}: is a file, should be a folder for what {by} writes")
        return
    others = sorted(_files(place) - _written(place, by))
    if others and not force:
        raise UserError(
            f"{path}: {by} did not write {some(others)} in it, and would remove all; name another folder, "
            "or say --force"
        )


def _files(folder: Path) -> set[str]:
    """All in a folder that is not a folder itself, relative to it; links are not followed."""
    found = set()
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        found |= {Path(root, name).relative_to(folder).as_posix() for name in (*files, *links)}
    return found


def _written(folder: Path, by: str) -> set[str]:
    """The files that a folder's manifest says are a stage's."""
    try:
        content = json.loads((folder / MANIFEST).read_text("utf-8"))
        return {MANIFEST, *content["files"]} if content["written_by"] == by else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _finish(partial: Path, path: Path, *, by: str, force: bool) -> None:
    """Put the manifest into a folder that is complete, and the folder into its place."""
    files = {file for file in _files(partial) if not file.startswith(f"{STATE}/")} - {MANIFEST}
    write_json(partial / MANIFEST, {"written_by": by, "files": sorted(files)})
    check_replaceable(path, by=by, force=force)  # again: that may have been hours ago
    shutil.rmtree(partial / STATE, ignore_errors=True)
    _move(partial, path.resolve())


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
        pid = old.name.removeprefix(f".{path.name}.").removesuffix(".partial")
        if pid.isascii() and pid.isdigit() and not _runs(int(pid)):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _runs(pid: int) -> bool:
    """Whether a process runs; a killed one whose end nobody asked for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError, OverflowError):
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
    other = f"not a file of the stage {made_by}, or damaged"
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage {made_by} makes it") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, should be a file of the stage {made_by}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {other} ({error}); name another, or run that stage again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: {other}; name another, or run that stage again")
    return content
