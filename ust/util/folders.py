"""Atomic writes of whole folders, which replace only files that the same stage wrote before."""

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
    """Yield an empty folder beside `path`; it replaces `path` when the block ends without error."""
    check_replaceable(path, by=by, force=force)
    with explain_write_errors(path), temporary_path(path.resolve()) as partial:
        partial.mkdir()
        try:
            yield partial
            _finish(partial, path, by=by, force=force)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resumable_folder(path: Path, key: str, *, by: str, force: bool = False) -> Iterator[tuple[Path, Path]]:
    """Like `atomic_folder`, but an interrupted run with the same key is resumed."""
    check_replaceable(path, by=by, force=force)
    target = path.resolve()
    partial = target.with_name(f".{target.name}.partial")
    state = partial / STATE
    with explain_write_errors(path), lock_folder(partial):
        if not (state / key).is_file():
            if not state.is_dir() and _files(partial) - _written(partial, by):
                raise UserError(f"{partial}: holds files that {by} did not write; move them away")
            # The state folder is deleted last, because it marks the other files as written by this stage.
            for old in sorted(partial.iterdir(), key=lambda inside: inside == state):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            state.mkdir()
            (state / key).touch()
        yield partial, state
        _finish(partial, path, by=by, force=force)


def check_replaceable(path: Path, *, by: str, force: bool = False) -> None:
    """Check that a folder is missing, empty, or holds only files that the stage `by` wrote."""
    target = path.resolve()
    for description, protected in (("working folder", Path.cwd()), ("home folder", Path.home().resolve())):
        if protected == target or target in protected.parents:
            raise UserError(
                f"{path}: holds the {description}, and {by} replaces everything in its output; name another"
            )
    if not target.is_dir():
        if target.exists():
            raise UserError(f"{path}: is a file, should be a folder for the output of {by}")
        return
    foreign = sorted(_files(target) - _written(target, by))
    if foreign and not force:
        raise UserError(
            f"{path}: {by} did not write {shorten(foreign)} in it, and would delete everything; name another "
            "folder, or add --force"
        )


def _files(folder: Path) -> set[str]:
    """Return the relative paths of all files and links below a folder; links are not followed."""
    paths = set()
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        paths |= {Path(root, name).relative_to(folder).as_posix() for name in (*files, *links)}
    return paths


def _written(folder: Path, by: str) -> set[str]:
    """Return the files in a folder's manifest and the manifest itself; none if another stage wrote it."""
    try:
        content = json.loads((folder / MANIFEST).read_text("utf-8"))
        return {MANIFEST, *content["files"]} if content["written_by"] == by else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _finish(partial: Path, path: Path, *, by: str, force: bool) -> None:
    """Write the manifest of a completed folder and move the folder to its final path."""
    files = {file for file in _files(partial) if not file.startswith(f"{STATE}/")} - {MANIFEST}
    write_json(partial / MANIFEST, {"written_by": by, "files": sorted(files)})
    check_replaceable(path, by=by, force=force)  # again: hours may have passed
    shutil.rmtree(partial / STATE, ignore_errors=True)
    move_into_place(partial, path.resolve())
