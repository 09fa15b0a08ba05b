"""Names of files as text that every file and terminal takes."""

import re
import unicodedata
from pathlib import Path, PurePath

SPLITS = ("train", "validate", "test")  # of a data set


def printable(name: object) -> str:
    r"""A name, or a text with names in it, with each byte that is not UTF-8 escaped.

    Examples
    --------
    >>> printable("stra\udcdfe.wav")
    'stra\\xdfe.wav'
    """
    text = str(name)
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, as Windows allows
        return text.encode("utf-8", "backslashreplace").decode()


def original(name: str) -> str:
    r"""The name that `printable` made of one, where it had bytes that are not UTF-8.

    Examples
    --------
    >>> original("stra\\xdfe.wav") == "stra\udcdfe.wav"
    True
    """
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), name)


def nfc(text: str) -> str:
    """Return a name in normal form C, in which names are compared everywhere.

    Examples
    --------
    >>> nfc("Bru\\u0308cke") == "Br\\u00fccke"
    True
    """
    return unicodedata.normalize("NFC", text)


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file of a relative name, whichever Unicode form its parts have on the disk, or None."""
    try:
        if (folder / name).is_file():
            return folder / name
        place = folder
        for part in PurePath(name).parts:
            if not (place / part).exists():
                same = [other for other in place.iterdir() if nfc(other.name) == nfc(part)]
                if len(same) != 1:
                    return None
                part = same[0].name
            place = place / part
        return place if name and place.is_file() else None
    except (OSError, ValueError):  # a part that is too long, is no folder, or holds a null character
        return None
