"""Which files are recordings: by their names, for everything that lists a folder."""

import logging
import os
import shlex
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath

import soundfile as sf

from ust.util.names import printable

log = logging.getLogger("ust")

# How the names of files of a format end, beside the format's own name.
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
EXCLUDED_FORMATS = (
    "RAW",
    "MAT4",
    "MAT5",
)  # a raw file does not tell its rate; most of MATLAB's hold no sound
HEADERLESS = (".raw", ".pcm")
# What libsndfile reads none of, as far as it holds sound.
UNREADABLE_SUFFIXES = (*HEADERLESS, ".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".amr", ".3gp", ".3ga",
                       ".ac3", ".ape", ".dsf", ".mka", ".ra", ".spx", ".tta", ".weba", ".wv")  # fmt: skip
SYSTEM_FOLDERS = ("$recycle.bin", "system volume information", "__macosx")


@cache
def readable_suffixes() -> frozenset[str]:
    """What the names of recordings that libsndfile can read on this machine end with, in small letters."""
    formats = [name for name in sf.available_formats() if name not in EXCLUDED_FORMATS]
    return frozenset(
        suffix for name in formats for suffix in (f".{name.lower()}", *EXTRA_SUFFIXES.get(name, ()))
    )


@cache
def _audio_suffixes() -> frozenset[str]:
    known = (suffix for own in EXTRA_SUFFIXES.values() for suffix in own)
    return readable_suffixes() | {*known, *UNREADABLE_SUFFIXES, ".mp3", ".ogg", ".flac"}


def is_audio(name: str) -> bool:
    """Whether a file is a recording by its name, readable or not (see `conversion_hint`)."""
    return PurePosixPath(name).suffix.lower() in _audio_suffixes()


def is_hidden(parts: Iterable[str]) -> bool:
    """Whether a path below a folder is hidden, or what a system keeps for itself: .Trashes, ._street.wav."""
    return any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in parts)


def parts_below(path: str, folder: str) -> tuple[str, ...]:
    """The parts of an address below a folder's; of one that is not below it, its name."""
    try:
        return PurePosixPath(path).relative_to(folder).parts
    except ValueError:
        return PurePosixPath(path).parts[-1:]


def list_recordings(folder: Path) -> list[Path]:
    """List the recordings in a folder and below, sorted; hidden ones are left out, links are followed.

    Those that cannot be read for their format (.m4a) are listed, too: whoever opens them learns the reason.

    A folder that cannot be listed is named in a warning.
    """
    return sorted(_walk(folder, (os.path.realpath(folder),)))


def _walk(folder: Path, above: tuple[str, ...]) -> Iterable[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        log.warning("%s: cannot be listed, left out: %s", printable(folder), error.strerror or error)
        return
    for entry in entries:
        if is_hidden([entry.name]):
            continue
        path = folder / entry.name
        if entry.is_dir():
            place = os.path.realpath(path)
            if place not in above:  # a link to a folder that holds it
                yield from _walk(path, (*above, place))
        elif is_audio(entry.name) and entry.is_file():
            yield path


def conversion_hint(name: str) -> str | None:
    """What to do with a recording that cannot be read for its format; None where that is not the reason."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in readable_suffixes() or not is_audio(name):
        return None
    before = "-f s16le -ar 44100 -ac 1 " if suffix in HEADERLESS else ""
    command = f"ffmpeg {before}-i {shlex.quote(name)} {shlex.quote(name[: -len(suffix)] + '.flac')}"
    if before:
        return f"a {suffix} file does not tell its rate; convert it, for example with {command}"
    return f"{suffix} files cannot be read here; convert it, for example with {command}"
