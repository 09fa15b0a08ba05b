"""The file names that all commands accept as recordings."""

import logging
import os

import numpy as np
import pytest
import soundfile as sf

from ust.archive.recordings import find_recordings
from ust.audio.suffixes import EXTRA_SUFFIXES, conversion_hint, is_audio, list_recordings, readable_suffixes
from ust.cli.tag import collect_recordings
from ust.datasets.formats.base import ImportOptions
from ust.datasets.formats.class_folders import list_classes, read
from ust.util.names import printable, restore_name

LISTED = ("a.wav", "b/c.FLAC", "b/d.m4a", "b/e.bwf", "f/g.opus")
OMITTED = ("._a.wav", ".Trashes/a.wav", "b/.hidden/x.wav", "b/._c.FLAC", "notes.txt", "b/x.mat", "wav",
           "$RECYCLE.BIN/x.wav", "System Volume Information/x.wav", "__MACOSX/x.wav")  # fmt: skip


@pytest.fixture
def card(tmp_path):
    folder = tmp_path / ".mnt" / "card"  # what is given may be hidden
    for name in (*LISTED, *OMITTED):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def by_import(folder):
    return [path.relative_to(folder).as_posix() for path in list_recordings(folder)]


def by_archive(folder):
    paths = find_recordings(str(folder))["path"].to_pylist()
    return sorted(os.path.relpath(path, folder) for path in paths)


def by_labels(folder):
    found = read(folder, ImportOptions())
    assert found.problems == [f"{folder / 'a.wav'}: is not in the folder of a class"]
    return ["a.wav", *(os.path.relpath(annotation.path, folder) for annotation in found.annotations)]


def by_tag(folder):
    return list(collect_recordings([folder]))


@pytest.mark.parametrize("lists", [by_import, by_archive, by_labels, by_tag])
def test_every_command_lists_the_same_recordings(card, lists):
    """Hidden and system files are skipped; unreadable recordings are listed."""
    assert sorted(lists(card)) == sorted(LISTED)


def test_suffixes_match_libsndfile(tmp_path):
    """A file of each format of libsndfile is written and read again under its suffix."""
    for name in set(EXTRA_SUFFIXES) & set(sf.available_formats()) - {"SVX", "NIST", "IRCAM"}:
        for suffix in EXTRA_SUFFIXES[name]:
            assert suffix in readable_suffixes()
            path = tmp_path / f"a{suffix}"
            sf.write(path, np.zeros(4410), 44_100, format=name)
            assert sf.info(path).frames >= 4410
            assert conversion_hint(str(path)) is None
    assert {".wav", ".flac", ".ogg", ".mp3", ".rf64", ".w64", ".caf"} <= readable_suffixes()
    assert not {".raw", ".mat4", ".mat5", ".mat", ".txt"} & readable_suffixes()


def test_unreadable_formats_have_a_conversion_hint():
    assert conversion_hint("my card/s.M4A").endswith("ffmpeg -i 'my card/s.M4A' 'my card/s.flac'")
    assert "does not tell its rate" in conversion_hint("s.raw")
    assert all(is_audio(f"x{suffix}") for suffix in (".aac", ".wma", ".webm", ".mp4", ".amr"))
    assert conversion_hint("notes.txt") is None


def test_class_with_only_unreadable_recordings_is_a_class(tmp_path):
    for name in ("dog/1.wav", "siren/1.m4a"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert list_classes(tmp_path) == ["dog", "siren"]


def test_cyclic_links_are_followed_once(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.wav").touch()
    card = tmp_path / "card"
    card.mkdir()
    (card / "near").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "up").symlink_to(card)
    (card / "own.wav").symlink_to(card / "own.wav")
    assert by_import(card) == ["near/a.wav"]


def test_unlistable_folder_is_named_and_the_rest_listed(card, monkeypatch, caplog):
    scandir = os.scandir

    def refuse(folder):
        if os.fspath(folder).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with caplog.at_level(logging.WARNING):
        assert by_import(card) == ["a.wav", "f/g.opus"]
    assert f"{card / 'b'}: cannot be listed, left out: Permission denied" in caplog.text


def test_names_that_are_not_utf_8_are_escaped():
    name = os.fsdecode(b"stra\xdfe \xc3\xa9.wav")
    assert printable(name) == "stra\\xdfe é.wav"
    assert printable(printable(name)) == printable(name)
    assert restore_name(printable(name)) == name
    assert printable("half \ud800 a character") == "half \\ud800 a character"
