"""Queries over a tagged archive, run by DuckDB on its Parquet files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pandas as pd

from ust.archive.folder import TAGS, Archive
from ust.util.errors import UserError

TOKENS = re.compile(r"\s*(?:(>=|<=|>|<)|(\()|(\))|(\d*\.?\d+(?![\w-]))|\"([^\"]+)\"|([\w./-]+))")
# Groupings for counts, as SQL expressions over a row of tags.
GROUPINGS = {
    "hour": 'hour("time")',
    "day": 'cast("time" as date)',
    "weekday": 'isodow("time")',
    "month": "strftime(\"time\", '%Y-%m')",
    "sensor": "sensor",
    "path": "path",
}


@dataclass(frozen=True)
class Condition:
    """A condition on probabilities, as SQL.

    Attributes
    ----------
    sql : str
        Expression with a placeholder for each number.
    numbers : list of float
        Values of the placeholders.
    labels : list of str
        Labels in the condition, in order of appearance.
    """

    sql: str
    numbers: list[float]
    labels: list[str]


def parse_condition(text: str, labels: Sequence[str]) -> Condition:
    """Parse a condition such as ``siren > 0.8 and not (dog >= 0.5 or music >= 0.5)``.

    Parameters
    ----------
    text : str
        Comparisons of labels with numbers (> >= < <=), joined by and, or, not and parentheses. A label may be
        abbreviated to a part that is unique among the labels, in quotes if it contains spaces.
    labels : sequence of str
        The labels of the archive.

    Raises
    ------
    UserError
        If the condition has a syntax error or an unknown label.
    """
    sql, numbers, used_labels = [], [], []
    position, expected, depth = 0, "label", 0
    text = text.strip()
    while position < len(text):
        match = TOKENS.match(text, position)
        if match is None:
            raise _not_understood(text, f"at {text[position:]!r}")
        position = match.end()
        comparison, opening, closing, number, quoted, word = match.groups()
        lower = (word or "").lower()
        if expected == "label" and (opening or lower == "not"):
            depth += bool(opening)
            sql.append("(" if opening else "not")
        elif expected == "label" and (quoted or word or number):
            label = find_label(quoted or word or number, labels)
            used_labels.append(label)
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
    return Condition(" ".join(sql), numbers, used_labels)


def find_label(text: str, labels: Sequence[str]) -> str:
    """Return the one label that equals or contains a text, ignoring case and punctuation.

    Raises
    ------
    UserError
        If no label matches, or several do.

    Examples
    --------
    >>> find_label("siren", ["5_alert-signal", "5-3_siren"])
    '5-3_siren'
    """

    def plain(name: str) -> str:
        return re.sub(r"[\W_]+", " ", name.lower()).strip()

    for matches in (lambda label: label == text, lambda label: plain(label).split(" ", 1)[-1] == plain(text),
                    lambda label: plain(text) in plain(label)):  # fmt: skip
        matching = [label for label in labels if matches(label)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise UserError(f"{text!r} is in several labels: {', '.join(matching)}; name one of them")
    raise UserError(f"no label contains {text!r}; there are {', '.join(labels)}")


def run_query(
    archive: Archive, condition: Condition, *, by: Sequence[str] = (), top: int = 10
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the windows that match a condition, and list the best matching ones.

    Parameters
    ----------
    archive : Archive
    condition : Condition
    by : sequence of str
        Keys of `GROUPINGS` to count by; one total count if empty.
    top : int
        Number of windows to list.

    Returns
    -------
    counts : pandas.DataFrame
        `by`, ``windows`` (number tagged), ``matching`` (number that match), ``share``.
    clips : pandas.DataFrame
        ``path``, ``start``, ``duration``, ``sensor``, ``time`` and the labels of the condition, sorted by
        the first label, highest probability first.

    Raises
    ------
    UserError
        If `by` has an unknown name, or no shard is finished.
    """
    unknown = [name for name in by if name not in GROUPINGS]
    if unknown:
        raise UserError(f"--by has {unknown[0]!r}, should be any of {', '.join(GROUPINGS)}")
    # DuckDB streams the batches, so the archive need not fit in memory.
    with duckdb.connect() as database:
        database.register("tags", archive.dataset(TAGS))
        keys = ", ".join(f"{GROUPINGS[name]} as {_quoted(name)}" for name in by)
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
