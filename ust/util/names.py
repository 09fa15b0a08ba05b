"""Names of splits and files, and file names as text: Unicode normalisation and undecodable bytes."""

import re
import unicodedata
from pathlib import Path, PurePath

SPLITS = ("train", "validate", "test")  # of a data set
MODEL_FILE = "model.json"  # in the folder of a trained model: its description


def printable(name: object) -> str:
    r"""Return a name, or a text with names in it, with every byte that is not UTF-8 escaped.

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
    except UnicodeEncodeError:  # an unpaired surrogate, which Windows allows in names
        return text.encode("utf-8", "backslashreplace").decode()


def restore_name(name: str) -> str:
    r"""Return the name that `printable` escaped.

    Examples
    --------
    >>> restore_name("stra\\xdfe.wav") == "stra\udcdfe.wav"
    True
    """
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda match: chr(0xDC00 + int(match[1], 16)), name)


def nfc(text: str) -> str:
    """Return a name in Unicode normal form C (NFC); all comparisons of names use it.

    Examples
    --------
    >>> nfc("Bru\\u0308cke") == "Br\\u00fccke"
    True
    """
    return unicodedata.normalize("NFC", text)


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file with a relative name, in any Unicode normal form, or None."""
    try:
        if (folder / name).is_file():
            return folder / name
        path = folder
        for part in PurePath(name).parts:
            if not (path / part).exists():
                matches = [other for other in path.iterdir() if nfc(other.name) == nfc(part)]
                if len(matches) != 1:
                    return None
                part = matches[0].name
            path = path / part
        return path if name and path.is_file() else None
    except (OSError, ValueError):  # a part is too long, not a folder, or has a null character
        return None
