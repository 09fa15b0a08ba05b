"""The exception for errors of the user's input, and helpers for its message."""

from collections.abc import Sequence


class UserError(Exception):
    """An error that the user can fix; its message states the found and the expected value and the remedy."""


def bullet_list(problems: Sequence[str], limit: int = 50) -> str:
    """Return the first `limit` problems as indented lines, and the number of further ones."""
    lines = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  … and {len(problems) - limit} more")
    return "\n".join(lines)


def plural(count: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> plural(1, "recording"), plural(2_000, "recording")
    ('1 recording', '2,000 recordings')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def single_line(error: object, limit: int = 200) -> str:
    """Return the first `limit` characters of an error's message on one line, or its type if it has none.

    Examples
    --------
    >>> single_line(ValueError("line 1:\\n  bad")), single_line(EOFError())
    ('line 1: bad', 'EOFError')
    """
    return " ".join(str(error).split())[:limit] or type(error).__name__


def shorten(names: Sequence[str], limit: int = 3) -> str:
    """Return the first `limit` names, and the number of further ones.

    Examples
    --------
    >>> shorten(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
