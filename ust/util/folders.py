"""Writing folders: all of one or nothing, taking the place only of what the same stage wrote before."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ust.util.documents import write_json
from ust.util.errors import UserError, shorten
from ust.util.files import explain_write_errors, lock_folder, move_into_place, temporary_path

MANIFEST = ".manifest.json"
STATE = ".state"


@contextmanager
def atomic_folder(path: Path, *, by: str, force: bool = False) -> Iterator[Path]:
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
    with explain_write_errors(path), temporary_path(place) as partial:
        partial.mkdir()
        try:
            yield partial
            _finish(partial, path, by=by, force=force)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resumable_folder(path: Path, key: str, *, by: str, force: bool = False) -> Iterator[tuple[Path, Path]]:
    """The same for a folder that takes long: a run goes on from what one of the same key left when cut short.

    Parameters
    ----------
    path : Path
    key : str
        Stands for everything that what is written depends on.
    by, force
        See `atomic_folder`.

    Yields
    ------
    folder, state : Path
        The folder that takes the place of `path`, and one in it, for what is needed to go on, which does not.
    """
    check_replaceable(path, by=by, force=force)
    place = path.resolve()
    partial = place.with_name(f".{place.name}.partial")
    state = partial / STATE
    with explain_write_errors(path), lock_folder(partial):
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
            f"{path}: {by} did not write {shorten(others)} in it, and would remove all; name another folder, "
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
    move_into_place(partial, path.resolve())
