"""Names of files as text that every file and terminal takes."""

import re


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
