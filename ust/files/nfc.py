"""Comparing names in one Unicode form: "é" is one character or two, depending on the system that wrote it."""

import unicodedata
from pathlib import Path, PurePath


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
