"""The one exception that means "the input is at fault, not the program"."""

from collections.abc import Sequence


class UserError(Exception):
    """Something the user can mend; the message says what was found, what was wanted and what to do."""


def bullet_list(problems: Sequence[str], limit: int = 50) -> str:
    """Problems as indented lines, the first `limit` of them, with a count of the rest."""
    lines = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  … and {len(problems) - limit} more")
    return "\n".join(lines)


def shorten(names: Sequence[str], limit: int = 3) -> str:
    """The first `limit` names, with a count of the rest.

    Examples
    --------
    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
