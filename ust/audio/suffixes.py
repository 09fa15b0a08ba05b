"""Recognise and list recordings by the suffixes of their names."""

import logging
import os
import shlex
from collections.abc import Iterable
from functools import cache
from itertools import chain
from pathlib import Path, PurePosixPath

import soundfile as sf

from ust.util.names import printable

log = logging.getLogger("ust")

# Suffixes of libsndfile's formats that differ from the format's name.
EXTRA_SUFFIXES = {
    "WAV": (".wave", ".bwf"),
    "AIFF": (".aif", ".aifc"),
    "AU": (".snd",),
    "MP3": (".mp2", ".mpga"),
    "OGG": (".oga", ".opus"),
    "SVX": (".8svx", ".iff"),
    "NIST": (".sph",),
    "IRCAM": (".sf",),
}
EXCLUDED_FORMATS = ("RAW", "MAT4", "MAT5")  # raw files lack a sample rate; MATLAB files rarely hold sound
HEADERLESS = (".raw", ".pcm")
# Suffixes of sound files that libsndfile cannot read.
UNREADABLE_SUFFIXES = (*HEADERLESS, ".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".amr", ".3gp", ".3ga",
                       ".ac3", ".ape", ".dsf", ".mka", ".ra", ".spx", ".tta", ".weba", ".wv")  # fmt: skip
SYSTEM_FOLDERS = ("$recycle.bin", "system volume information", "__macosx")


@cache
def readable_suffixes() -> frozenset[str]:
    """Return the lower-case suffixes of the formats that libsndfile reads on this machine."""
    formats = [name for name in sf.available_formats() if name not in EXCLUDED_FORMATS]
    return frozenset(
        suffix for name in formats for suffix in (f".{name.lower()}", *EXTRA_SUFFIXES.get(name, ()))
    )


@cache
def _audio_suffixes() -> frozenset[str]:
    """Return the suffixes of all sound files, whether libsndfile reads them or not."""
    extra = chain.from_iterable(EXTRA_SUFFIXES.values())
    return readable_suffixes() | {*extra, *UNREADABLE_SUFFIXES, ".mp3", ".ogg", ".flac"}


def is_audio(name: str) -> bool:
    """Return whether a file name has the suffix of a sound file, readable or not (see `conversion_hint`)."""
    return PurePosixPath(name).suffix.lower() in _audio_suffixes()


def is_hidden(parts: Iterable[str]) -> bool:
    """Return whether a relative path is hidden or of the operating system: .Trashes, ._street.wav."""
    return any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in parts)


def parts_below(path: str, folder: str) -> tuple[str, ...]:
    """Return the parts of a path relative to a folder; outside the folder, only the file's name."""
    try:
        return PurePosixPath(path).relative_to(folder).parts
    except ValueError:
        return PurePosixPath(path).parts[-1:]


def list_recordings(folder: Path) -> list[Path]:
    """Return the sorted recordings below a folder; hidden files are skipped, links are followed.

    Recordings in an unreadable format (.m4a) are included, so that opening them reports the reason. A folder
    that cannot be listed is skipped with a warning.
    """
    return sorted(_walk(folder, (os.path.realpath(folder),)))


def _walk(folder: Path, parents: tuple[str, ...]) -> Iterable[Path]:
    """Yield recordings below a folder; `parents` are the real paths of the folder and those above."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        log.warning("%s: cannot be listed, left out: %s", printable(folder), error.strerror or error)
        return
    for entry in entries:
        if is_hidden([entry.name]):
            continue
        path = folder / entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:  # such as a link to itself
            log.warning("%s: cannot be read, left out: %s", printable(path), error.strerror or error)
            continue
        if is_folder:
            real = os.path.realpath(path)
            if real not in parents:  # skip a link to a parent folder
                yield from _walk(path, (*parents, real))
        elif is_audio(entry.name) and is_file:
            yield path


def conversion_hint(name: str) -> str | None:
    """Return how to convert a recording in an unreadable format; None if its format is readable."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in readable_suffixes() or not is_audio(name):
        return None
    before = "-f s16le -ar 44100 -ac 1 " if suffix in HEADERLESS else ""
    command = f"ffmpeg {before}-i {shlex.quote(name)} {shlex.quote(name[: -len(suffix)] + '.flac')}"
    if before:
        return f"a {suffix} file does not tell its rate; convert it, for example with {command}"
    return f"{suffix} files cannot be read here; convert it, for example with {command}"
