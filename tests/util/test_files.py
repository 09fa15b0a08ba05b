"""Atomic files and folders: only files that the writer made itself are replaced or removed."""

import errno
import fcntl
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ust.util.errors import UserError
from ust.util.files import atomic_write, lock_folder, write_if_absent
from ust.util.folders import MANIFEST, atomic_folder, resumable_folder


def replace(path, text="new", **options):
    with atomic_folder(path, **{"by": "a stage", **options}) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(text)


def resume(path, text="new", key="k", **options):
    with resumable_folder(path, key, **{"by": "a stage", **options}) as (folder, state):
        (state / "note").write_text("x")
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(text)


WRITERS = pytest.mark.parametrize("write", [replace, resume])


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@WRITERS
def test_folder_writers_accept_new_empty_and_own_folders(tmp_path, write):
    out = tmp_path / "deep" / "out"
    write(out)
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest == {"written_by": "a stage", "files": ["sub/file"]}
    write(out, "newer")
    assert (out / "sub" / "file").read_text() == "newer"
    (tmp_path / "empty" / "folders" / "only").mkdir(parents=True)
    write(tmp_path / "empty")
    assert sorted(tree(tmp_path / "empty")) == [MANIFEST, "sub/file"]
    assert not list(tmp_path.rglob("*.partial"))


@WRITERS
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("file in a new folder", "precious.txt"),
        ("file", "precious.txt"),
        ("file", "sub/precious.txt"),
        ("file", ".precious"),
        ("link", "precious.txt"),
        ("folder link", "precious"),
        ("another's manifest", "sub/file"),
        ("damaged manifest", "sub/file"),
    ],
)
def test_folder_writers_refuse_and_name_foreign_files(tmp_path, write, kind, name):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    if kind == "file in a new folder":
        out.mkdir()
    else:
        write(out)
    manifest = out / MANIFEST
    if kind.startswith("file"):
        (out / name).write_text("kept")
    elif kind.endswith("link"):
        (out / name).symlink_to(elsewhere / "kept" if kind == "link" else elsewhere)
    else:
        text = manifest.read_text().replace("a stage", "another")
        manifest.write_text("[" if kind.startswith("damaged") else text)
    before = tree(tmp_path)
    with pytest.raises(UserError, match="did not write") as error:
        write(out)
    assert name in str(error.value)
    assert "--force" in str(error.value)
    assert tree(tmp_path) == before
    write(out, force=True)
    assert sorted(tree(out)) == [MANIFEST, "sub/file"]
    assert (elsewhere / "kept").read_text() == "kept"


@WRITERS
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("place", [".", "..", "/", "~", "~/..", "here/..", "link"])
def test_folder_writers_refuse_working_and_home_folders(tmp_path, monkeypatch, write, place, force):
    working, home = tmp_path / "a" / "work", tmp_path / "b" / "home"
    for folder in (working / "here", home):
        folder.mkdir(parents=True)
    (working / "kept").write_text("kept")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(working)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    path = tmp_path / "link" if place == "link" else Path(place).expanduser()
    with pytest.raises(UserError, match=r"holds the (working|home) folder"):
        write(path, force=force)
    assert (working / "kept").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "link"]


@WRITERS
def test_folder_writers_refuse_a_file_at_their_path(tmp_path, write):
    (tmp_path / "out").write_text("kept")
    with pytest.raises(UserError, match="is a file, should be a folder"):
        write(tmp_path / "out", force=True)
    assert (tmp_path / "out").read_text() == "kept"


@WRITERS
def test_folder_writers_keep_files_added_during_the_run(tmp_path, write):
    out = tmp_path / "out"
    write(out)

    class Meanwhile(str):
        """A text; writing it also writes another file beside the output."""

    real = Path.write_text

    def write_text(self, text, *args, **options):
        if isinstance(text, Meanwhile):
            real(out / "precious.txt", "kept")
        return real(self, str(text), *args, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=r"precious\.txt"):
        patch.setattr(Path, "write_text", write_text)
        write(out, Meanwhile("newer"))
    assert tree(out)["precious.txt"] == "kept"
    assert tree(out)["sub/file"] == "new"


@WRITERS
def test_folder_writers_keep_a_symlink(tmp_path, write):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    (tmp_path / "disk" / "out").mkdir()
    write(tmp_path / "out")
    write(tmp_path / "out", "newer")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "out" / "sub" / "file").read_text() == "newer"


def test_resumable_folder_keeps_foreign_partial_folder(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "precious.txt").write_text("kept")
    with pytest.raises(UserError, match="did not write"):
        resume(tmp_path / "out")
    assert (tmp_path / ".out.partial" / "precious.txt").read_text() == "kept"


def test_atomic_write_keeps_partial_file_without_process_id(tmp_path):
    names = [".a.csv.mine.partial", ".a.csv..partial", ".a.csv.1x.partial"]
    for name in names:
        (tmp_path / name).write_text("kept")
    with atomic_write(tmp_path / "a.csv") as partial:
        partial.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "a.csv"])  # noqa: PTH208


def test_atomic_folder_is_unchanged_after_an_error(tmp_path):
    replace(tmp_path / "out")
    with pytest.raises(KeyError), atomic_folder(tmp_path / "out", by="a stage") as folder:
        (folder / "half").write_text("half")
        raise KeyError
    assert tree(tmp_path) == {
        "out/sub/file": "new",
        f"out/{MANIFEST}": (tmp_path / "out" / MANIFEST).read_text(),
    }


def test_old_folder_is_kept_until_the_new_one_is_in_place(tmp_path, monkeypatch):
    """A failed rename loses neither."""
    replace(tmp_path / "out", "old")
    rename = Path.replace

    def fail(path, target):
        if target == tmp_path / "out":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="cannot be written"):
        replace(tmp_path / "out", "new")
    assert "old" in tree(tmp_path).values()


def test_missing_input_is_not_reported_as_a_failed_write(tmp_path):
    missing = tmp_path / "elsewhere" / "a.csv"
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "out" / "b", by="a stage") as folder:
        shutil.copyfile(missing, folder / "a.csv")


@pytest.mark.parametrize("place", [".", "..", "/", "folder"])
def test_atomic_write_names_a_folder_at_its_path(tmp_path, monkeypatch, place):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(UserError, match="is a folder, should be the path of a file"),
        atomic_write(Path(place)),
    ):
        pass


def test_atomic_write_lists_the_folder_once_for_many_files(tmp_path, monkeypatch):
    """Listing the folder for each file would be quadratic in the number of clips."""
    listed, scandir, listdir = [], os.scandir, os.listdir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(path) or scandir(path))
    monkeypatch.setattr(os, "listdir", lambda path=".": listed.append(path) or listdir(path))
    for index in range(50):
        with atomic_write(tmp_path / f"{index}.npy") as partial:
            partial.write_text("x")
    monkeypatch.undo()
    assert len(listed) <= 1
    assert len(list(tmp_path.iterdir())) == 50


def test_atomic_write_removes_only_its_own_leftovers(tmp_path):
    """Another machine, whose locks are not visible, may be writing the other files."""
    for name in (".a.npy.999999998.partial", ".b.npy.999999999.partial"):
        (tmp_path / name).write_text("half")
    with atomic_write(tmp_path / "c.npy") as partial:
        partial.write_text("x")
    assert sorted(tree(tmp_path)) == [".a.npy.999999998.partial", ".b.npy.999999999.partial", "c.npy"]
    with atomic_write(tmp_path / "b.npy") as partial:
        partial.write_text("x")
    assert sorted(tree(tmp_path)) == [".a.npy.999999998.partial", "b.npy", "c.npy"]


def test_write_if_absent_succeeds_once_of_many_attempts(tmp_path):
    path = tmp_path / "deep" / "list"
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda n: write_if_absent(path, str(n).encode()), range(32)))
    assert sum(written) == 1
    assert path.read_text() == str(written.index(True))


@pytest.mark.parametrize("links", [True, False])
def test_write_if_absent_never_overwrites(tmp_path, monkeypatch, links):
    if not links:  # such as exFAT

        def link(*_):
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "list"
    assert write_if_absent(path, b"0")
    assert not write_if_absent(path, b"other")
    assert tree(tmp_path) == {"list": "0"}


def test_write_if_absent_keeps_recent_partial_files(tmp_path):
    """Another machine may have the same process id, and its locks are not visible."""
    path = tmp_path / "list"
    running, abandoned = (tmp_path / f".list.{pid}.partial" for pid in (os.getpid(), 7))
    for partial in (running, abandoned):
        partial.write_text("of another machine")
    two_days_ago = abandoned.stat().st_mtime - 2 * 24 * 3600
    os.utime(abandoned, (two_days_ago, two_days_ago))
    assert write_if_absent(path, b"new")
    assert tree(tmp_path) == {"list": "new", running.name: "of another machine"}
    running.write_text("still writing")
    assert path.read_text() == "new"


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks, such as NFS without its lock daemon."""

    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("how", ["file", "folder", "exclusive"])
def test_missing_file_locks_are_named_with_the_remedy(tmp_path, no_locks, how):
    with pytest.raises(UserError, match=r"ust-locks.*has no file locks.*TMPDIR"):
        if how == "file":
            with atomic_write(tmp_path / "a"):
                pass
        elif how == "folder":
            replace(tmp_path / "out")
        else:
            with lock_folder(tmp_path / "out"):
                pass
    assert not list(tmp_path.rglob("*"))
