"""Questions to a tagged archive, answered by DuckDB from its Parquet files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pandas as pd

from ust.archive.folder import TAGS, Archive
from ust.util.errors import UserError

TOKENS = re.compile(r"\s*(?:(>=|<=|>|<)|(\()|(\))|(\d*\.?\d+(?![\w-]))|\"([^\"]+)\"|([\w./-]+))")
# What can be counted by: an expression over a row of tags.
BY = {
    "hour": 'hour("time")',
    "day": 'cast("time" as date)',
    "weekday": 'isodow("time")',
    "month": "strftime(\"time\", '%Y-%m')",
    "sensor": "sensor",
    "path": "path",
}


@dataclass(frozen=True)
class Condition:
    """A condition on probabilities, as SQL with places for its numbers.

    Attributes
    ----------
    sql : str
    numbers : list of float
    labels : list of str
        That it asks for, in order.
    """

    sql: str
    numbers: list[float]
    labels: list[str]


def parse_condition(text: str, labels: Sequence[str]) -> Condition:
    """Understand a condition such as ``siren > 0.8 and not (dog >= 0.5 or music >= 0.5)``.

    Parameters
    ----------
    text : str
        Labels, in whole or a part that only one has (in quotes if there are spaces in it), compared with
        numbers by > >= < <=, joined by and, or, not and parentheses.
    labels : sequence of str
        Of the archive.

    Raises
    ------
    UserError
        If it is not understood.
    """
    sql, numbers, found = [], [], []
    place, expected, depth = 0, "label", 0
    text = text.strip()
    while place < len(text):
        match = TOKENS.match(text, place)
        if match is None:
            raise _not_understood(text, f"at {text[place:]!r}")
        place = match.end()
        comparison, opening, closing, number, quoted, word = match.groups()
        lower = (word or "").lower()
        if expected == "label" and (opening or lower == "not"):
            depth += bool(opening)
            sql.append("(" if opening else "not")
        elif expected == "label" and (quoted or word or number):
            label = find_label(quoted or word or number, labels)
            found.append(label)
            sql.append(_quoted(label))
            expected = "comparison"
        elif expected == "comparison" and comparison:
            sql.append(comparison)
            expected = "number"
        elif expected == "number" and number:
            sql.append("?")
            numbers.append(float(number))
            expected = "and"
        elif expected == "and" and closing and depth:
            depth -= 1
            sql.append(")")
        elif expected == "and" and lower in ("and", "or"):
            sql.append(lower)
            expected = "label"
        else:
            raise _not_understood(text, f"at {match.group().strip()!r}, where there should be a {expected}")
    if expected != "and" or depth:
        raise _not_understood(text, f"at its end, where there should be a {')' if depth else expected}")
    return Condition(" ".join(sql), numbers, found)


def find_label(text: str, labels: Sequence[str]) -> str:
    """The one label that is, or has in it, a text; case and what joins words do not matter.

    Raises
    ------
    UserError
        If there is none, or more than one.

    Examples
    --------
    >>> find_label("siren", ["5_alert-signal", "5-3_siren"])
    '5-3_siren'
    """

    def plain(name: str) -> str:
        return re.sub(r"[\W_]+", " ", name.lower()).strip()

    for alike in (lambda label: label == text, lambda label: plain(label).split(" ", 1)[-1] == plain(text),
                  lambda label: plain(text) in plain(label)):  # fmt: skip
        found = [label for label in labels if alike(label)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{text!r} is in several labels: {', '.join(found)}; say which")
    raise UserError(f"no label has {text!r} in it; there are {', '.join(labels)}")


def run_query(
    archive: Archive, condition: Condition, *, by: Sequence[str] = (), top: int = 10
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often, and where most.

    Parameters
    ----------
    archive : Archive
    condition : Condition
    by : sequence of str
        Of `BY`: counts for each of their values, and all together without.
    top : int
        How many of the clearest windows.

    Returns
    -------
    counts : pandas.DataFrame
        `by`, ``windows`` (all that were tagged), ``matching``, ``share``.
    clips : pandas.DataFrame
        ``path``, ``start``, ``duration``, ``sensor``, ``time`` and the labels asked for, sorted by the
        first of them.

    Raises
    ------
    UserError
        If `by` has an unknown name, or nothing is tagged yet.
    """
    unknown = [name for name in by if name not in BY]
    if unknown:
        raise UserError(f"--by has {unknown[0]!r}, should be of {', '.join(BY)}")
    # DuckDB reads the batches as they come: neither it nor Arrow holds the archive.
    with duckdb.connect() as database:
        database.register("tags", archive.dataset(TAGS))
        keys = ", ".join(f"{BY[name]} as {_quoted(name)}" for name in by)
        names = ", ".join(_quoted(name) for name in by)
        counts = database.execute(
            f"select {keys + ',' if keys else ''} count(*) as windows, "
            f"count(*) filter (where {condition.sql}) as matching from tags "
            + (f"group by {names} order by {names} nulls last" if by else ""),
            condition.numbers,
        ).df()
        counts["share"] = (counts["matching"] / counts["windows"].clip(lower=1)).round(6)
        labels = ", ".join(_quoted(label) for label in dict.fromkeys(condition.labels))
        clips = database.execute(
            f"select path, start, duration, sensor, time, {labels} from tags where {condition.sql} "
            f"order by {_quoted(condition.labels[0])} desc, path, start limit {int(top)}",
            condition.numbers,
        ).df()
    return counts, clips


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _not_understood(text: str, where: str) -> UserError:
    return UserError(f"the condition {text!r} is not understood {where}; it should be like: siren > 0.8")
