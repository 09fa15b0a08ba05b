"""Queries over a tagged archive, run by DuckDB on its Parquet files.

A condition is an SQL expression over the columns of a window: its labels, ``path``, ``sensor``, ``time``
(UTC), ``start``, ``duration``, ``hour``, ``day``, ``weekday``, ``week`` and ``month``. DuckDB parses it. This
module replaces abbreviated labels, compares labels alone with their thresholds, and checks probabilities.

Shares and hours refer to the windows that satisfy those terms of the condition, joined by ``and``, that have
no label. So ``engine and sensor = 'roof'`` has the share of ``engine`` at this sensor.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from ust.archive.folder import TAGS, Archive
from ust.util.errors import UserError

# Columns that a condition may name and counts may be grouped by, as SQL expressions over a row of tags.
GROUPINGS = {
    "hour": 'hour("time")',
    "day": 'cast("time" as date)',
    "weekday": 'isodow("time")',
    "week": "strftime(\"time\", '%G-W%V')",
    "month": "strftime(\"time\", '%Y-%m')",
    "sensor": "sensor",
    "path": "path",
}
COLUMNS = {*GROUPINGS, "time", "start", "duration", "model"}
TOKEN = re.compile(
    r"""\s*(?: (?P<text>'[^']*') | (?P<quoted>"[^"]+")
    | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?(?![\w.-])) | (?P<word>[\w./-]*[^\W\d][\w./-]*)
    | (?P<operator><=|>=|<>|!=|==|[-=<>+*/%]) | (?P<other>.) )""",
    re.VERBOSE | re.IGNORECASE,
)
LOGIC = {"and", "or", "not", "(", ")"}  # beside these a label alone means that it is present
KEYWORDS = LOGIC | {"between", "in", "is", "like", "ilike", "null", "true", "false"}
KEYWORDS |= {"date", "timestamp", "interval"}
# A column of text or time that is compared with a value without single quotes
UNQUOTED = re.compile(
    r"\b(?:sensor|path|time|day|week|month)\s*(?:[=<>!]+|\b(?:not\s+)?i?like\b|\b(?:not\s+)?in\s*\()\s*"
    r"(?P<value>[\w./-]+|\"[^\"]+\")",
    re.IGNORECASE,
)
MOST_FREQUENT = 12  # labels of one level that an overview shows


@dataclass(frozen=True)
class Condition:
    """A condition on windows, as SQL, and the labels in it in order of appearance.

    ``scope`` is the conjunction of its terms without a label. Shares refer to the windows that satisfy it.
    """

    sql: str
    labels: list[str]
    scope: str = "true"


def parse_condition(
    text: str, labels: Sequence[str], thresholds: Mapping[str, float] | None = None
) -> Condition:
    """Parse a condition such as ``siren > 0.8 and not (dog or music >= 0.5) and hour < 6``.

    Examples
    --------
    >>> condition = parse_condition("siren and hour < 6", ["5-3_siren"], {"5-3_siren": 0.7})
    >>> condition.sql, condition.scope
    ('("5-3_siren" >= 0.7::float) and hour < 6', '("hour" < 6)')
    """
    unquoted = {match["value"] for match in UNQUOTED.finditer(re.sub("'[^']*'", "''", text))}
    tokens = [(match.lastgroup, match.group().strip()) for match in TOKEN.finditer(text.strip())]
    words = [token.lower() for _, token in tokens]
    sql: list[str] = []
    found: list[str] = []
    calls: list[bool] = []  # for each open parenthesis, whether it holds the arguments of a function
    is_name = False
    for index, (kind, token) in enumerate(tokens):
        follows_name, is_name = is_name, kind == "word" and words[index] not in KEYWORDS
        if token == "(":
            calls.append(follows_name)
        elif token == ")" and calls:
            calls.pop()
        is_function = is_name and words[index + 1 : index + 2] == ["("]
        name = token.strip('"')
        if (kind != "quoted" and not is_name) or is_function or name.lower() in COLUMNS:
            sql.append(token)
            continue
        if token in unquoted:
            raise UserError(
                f"the condition {text!r} has {token} without single quotes; text has them, as in "
                "sensor = 'roof'"
            )
        label = find_label(name, labels)
        found.append(label)
        neighbours = {*words[max(index - 1, 0) : index], *words[index + 1 : index + 2]}
        in_between = "between" in words[max(index - 3, 0) : index]
        if neighbours <= LOGIC and not any(calls) and not in_between:
            sql.append(_reaches_threshold(label, thresholds))
        else:
            _check_probabilities(tokens, index, text)
            sql.append(_quoted(label))
    joined = " ".join(sql).replace("( ", "(").replace(" )", ")")
    # DuckDB checks the condition on one made-up window, before the archive is opened.
    row = dict.fromkeys([*labels, "start", "duration"], 0.0) | dict.fromkeys(["path", "sensor", "model"], "a")
    with _database() as database:
        _create_view(database, pd.DataFrame([row | {"time": pd.Timestamp(2024, 1, 1)}]))
        try:
            database.table("windows").filter(joined).fetchall()
            scope = _find_scope(database, joined, found)
        except duckdb.Error as error:
            hint = "it should be like: siren > 0.8 and hour < 6"
            if any(value[0].isdigit() for value in unquoted):
                hint = "text and times have single quotes, as in day = '2024-01-31'"
            elif re.search(r"\d,\d", text):
                hint = "decimals have a point, as in siren > 0.8"
            raise UserError(f"the condition {text!r} is not understood ({_reason(error)}); {hint}") from None
    return Condition(joined, list(dict.fromkeys(found)), scope)


def _find_scope(database: duckdb.DuckDBPyConnection, condition: str, labels: Sequence[str]) -> str:
    """Return the terms of a valid condition that have no label, joined by ``and``, as SQL."""
    statement = f"select 1 from windows where ({condition}\n)"
    (tree,) = database.execute("select json_serialize_sql(?::varchar)", [statement]).fetchone()
    statement = json.loads(tree)
    node = statement["statements"][0]["node"]
    terms = [term for term in _list_terms(node["where_clause"]) if not _list_columns(term) & {*labels}]
    if not terms:
        return "true"
    conjunction = {"class": "CONJUNCTION", "type": "CONJUNCTION_AND", "alias": "", "children": terms}
    node["where_clause"] = conjunction if len(terms) > 1 else terms[0]
    (text,) = database.execute("select json_deserialize_sql(?::json)", [json.dumps(statement)]).fetchone()
    return text.partition(" WHERE ")[2]


def _list_terms(expression: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the terms of a parsed expression that are joined by ``and``."""
    if expression["type"] != "CONJUNCTION_AND":
        return [expression]
    return [term for child in expression["children"] for term in _list_terms(child)]


def _list_columns(tree: object) -> set[str]:
    """Return the columns in a parsed expression."""
    if isinstance(tree, list):
        return set().union(*map(_list_columns, tree))
    if not isinstance(tree, dict):
        return set()
    return {*tree.get("column_names", ())}.union(*map(_list_columns, tree.values()))


def find_label(text: str, labels: Sequence[str]) -> str:
    """Return the one label that equals or contains a text, ignoring case and punctuation.

    Examples
    --------
    >>> find_label("siren", ["5_alert-signal", "5-3_siren"])
    '5-3_siren'
    """

    def normalise(name: str) -> str:
        return re.sub(r"[\W_]+", " ", name.lower()).strip()

    wanted, names = normalise(text), {label: normalise(label) for label in labels}
    for matching in (
        [label for label in labels if label == text],
        [label for label in labels if names[label] == wanted],
        [label for label in labels if names[label].split(" ", 1)[-1] == wanted],  # without the number
        [label for label in labels if wanted in names[label]],
    ):
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise UserError(f"{text!r} is in several labels: {', '.join(matching)}; name one of them")
    words = {name.split(" ", 1)[-1]: label for label, name in names.items()}
    near = [words[word] for word in get_close_matches(wanted, words)]
    hint = f"did you mean {' or '.join(near)}? All labels: " if near else "there are "
    raise UserError(f"no label contains {text!r}; {hint}{', '.join(labels)}")


def run_query(
    archive: Archive, condition: Condition, *, by: Sequence[str] = (), top: int = 10
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the windows and events that match a condition, and list the best matching windows.

    An event is a section of a recording in which consecutive windows match. Only the windows in the scope of
    the condition are counted.

    Raises
    ------
    UserError
        If no window is in the scope, or the archive is damaged.
    """
    unknown = [name for name in by if name not in GROUPINGS]
    if unknown:
        raise UserError(f"--by has {unknown[0]!r}, should be any of {', '.join(GROUPINGS)}")
    names = ", ".join(map(_quoted, by))
    labels = ", ".join(map(_quoted, condition.labels))
    with _open(archive) as database:
        counts = database.execute(
            f"with {_mark_matches({'hit': condition.sql}, condition.scope)} "
            f"select {names + ',' if names else ''} count(*) as windows, {_count_columns('hit')} from marked "
            + (f"group by {names} order by {names} nulls last" if by else "")
        ).df()
        windows = database.execute(
            f"select path, start, duration, sensor, time {',' + labels if labels else ''} from windows "
            f"where ({condition.sql}\n) "
            f"order by {_quoted(condition.labels[0]) + ' desc,' if labels else ''} path, start "
            f"limit {int(top)}"
        ).df()
    if condition.scope != "true" and not counts["windows"].sum():
        terms = condition.scope[1:-1] if condition.scope.startswith("(") else condition.scope
        raise UserError(f"{archive.address}: no window of the archive has: {terms}")
    counts.insert(len(by) + 2, "share", (counts["matching"] / counts["windows"].clip(lower=1)).round(6))
    counts["events_per_hour"] = (counts["events"] / counts["hours"].where(counts["hours"] > 0)).round(3)
    return counts, windows


@dataclass(frozen=True)
class Overview:
    """Summary of an archive."""

    recordings: int
    sensors: int
    hours: float  # duration of the tagged sound
    first: pd.Timestamp | None  # time of the first window, in UTC
    last: pd.Timestamp | None  # time of the last window
    label_count: int  # labels of the archive
    coarse: bool  # whether `shown` has all coarse labels; else it has the most frequent labels
    shown: list[str]  # labels to show, the most frequent first
    # At least these labels, as index: recordings in which the label reaches its threshold, share of the
    # windows, events, minutes, events_per_hour
    labels: pd.DataFrame
    by_hour: pd.DataFrame  # day, hour, hours (tagged), and the share of the windows with each shown label
    undated: int  # windows without a known time, which are not in `by_hour`
    # For each label of the archive the windows with the highest probabilities: label, probability, path,
    # start, duration, sensor, time
    clearest: pd.DataFrame


def list_coarse_labels(description: Mapping[str, Any]) -> list[str]:
    """Return the coarse labels; where an older archive does not list them, by the numbers of the labels."""
    fine = re.compile(r"\d+-[\dX]+_")
    return description.get("coarse", [name for name in description["labels"] if not fine.match(name)])


def summarize(
    archive: Archive,
    labels: Sequence[str],
    thresholds: Mapping[str, float] | None = None,
    *,
    coarse: Sequence[str] = (),
    top: int = 3,
    every: bool = False,
) -> Overview:
    """Summarize an archive: size, labels, when they occur and where they are clearest.

    It shows the coarse labels if there are fine ones, too, since these often have equal windows, and else the
    most frequent labels. The table has all labels if `every` is set.
    """
    two_levels = 0 < len(coarse) < len(labels)
    hits = [_reaches_threshold(label, thresholds) for label in labels]
    with _open(archive) as database:
        # First, for each label, the number of windows that reach its threshold, and the best windows.
        fields = "path := path, start := start, duration := duration, sensor := sensor, time := time"
        columns = [f"count(*) filter ({hit}), arg_max(struct_pack({fields}), {_quoted(label)}, {int(top)}), "
                   f"max({_quoted(label)}, {int(top)})"
                   for label, hit in zip(labels, hits, strict=True)]  # fmt: skip
        totals = database.execute(f"select count(*), {', '.join(columns)} from windows").fetchone()
        windows, counts = totals[0], np.array(totals[1::3])
        order = np.argsort(-counts, kind="stable")
        if two_levels:
            shown = [index for index in order if labels[index] in coarse]
        else:
            shown = [index for index in order[:MOST_FREQUENT] if counts[index]]
        # Then, events, a few labels at a time, and shares by hour: a taxonomy may have hundreds of labels.
        row: dict[str, Any] = {}
        listed = list(order) if every else shown
        for first in range(0, max(1, len(listed)), MOST_FREQUENT):
            batch = listed[first : first + MOST_FREQUENT]
            marked = _mark_matches({f"hit{index}": hits[index] for index in batch})
            sums = [_count_columns(f"hit{index}", f"{index}") for index in batch]
            whole = database.execute(
                f"with {marked} select count(distinct path) as recordings, "
                "count(distinct sensor) as sensors, min(time) as first, max(time) as last, "
                "count(*) - count(time) as undated, "
                f"{', '.join([*sums, _hours_column()])} from marked"
            ).df()
            row |= whole.iloc[0].to_dict()
        marked = _mark_matches({f"hit{index}": hits[index] for index in shown})
        shares = [f"avg(hit{index}::int) as {_quoted(labels[index])}" for index in shown]
        by_hour = database.execute(
            f"with {marked} select day, hour, {', '.join([_hours_column(), *shares])} from marked "
            "where time is not null group by day, hour order by day, hour"
        ).df()
    hours = float(row["hours"])
    table = pd.DataFrame(
        {
            "recordings": [int(row[f"recordings{index}"]) for index in listed],
            "share": [counts[index] / windows for index in listed],
            "events": [int(row[f"events{index}"]) for index in listed],
            "minutes": [row[f"minutes{index}"] for index in listed],
            "events_per_hour": [row[f"events{index}"] / max(hours, 1e-9) for index in listed],
        },
        index=pd.Index([labels[index] for index in listed], name="label"),
    )
    clearest = [
        {"label": label, "probability": probability} | window
        for label, places, highest in zip(labels, totals[2::3], totals[3::3], strict=True)
        for window, probability in zip(places or (), highest or (), strict=True)
    ]
    first, last = (None if pd.isna(row[name]) else row[name] for name in ("first", "last"))
    recordings, sensors = int(row["recordings"]), int(row["sensors"])
    return Overview(
        recordings, sensors, hours, first, last, len(labels), two_levels, [labels[index] for index in shown],
        table, by_hour, int(row["undated"]), pd.DataFrame(clearest),
    )  # fmt: skip


@contextmanager
def _database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in memory that can read nothing but what is registered."""
    with duckdb.connect(config={"enable_external_access": False}) as database:
        yield database


@contextmanager
def _open(archive: Archive) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the tags as the view ``windows``; DuckDB streams them, so they need not fit in memory."""
    with _database() as database:
        _create_view(database, archive.dataset(TAGS))
        try:
            yield database
        except duckdb.Error as error:
            archive.check_files(TAGS)
            raise UserError(f"{archive.address}: the query failed: {_reason(error)}") from None


def _create_view(database: duckdb.DuckDBPyConnection, tags: object) -> None:
    database.register("tags", tags)
    keys = ", ".join(f"{sql} as {name}" for name, sql in GROUPINGS.items() if sql != name)
    database.execute(f"create temp view windows as select *, {keys} from tags")


def _mark_matches(conditions: Mapping[str, str], scope: str = "true") -> str:
    """Return the SQL of a table ``marked``: for each window in the scope, which conditions it matches.

    Its column ``before`` is the end of the earlier windows of the same recording, and ``NAME_before`` that of
    the earlier windows that match the condition of this name. Both serve to count overlapping windows once.
    """
    keys = ", ".join(["path", "start", "sensor", "time", "hour", "day", "weekday", "week", "month"])
    hits = "".join(f", coalesce(({sql}\n), false) as {name}" for name, sql in conditions.items())
    before = "over (partition by path order by start rows between unbounded preceding and 1 preceding)"
    ends = "".join(f', max("end") filter ({name}) {before} as {name}_before' for name in conditions)
    return (
        f'hits as (select {keys}, start + duration as "end"{hits} from windows where {scope}), '
        f'marked as (select *, max("end") {before} as before{ends} from hits)'
    )


def _count_columns(hit: str, suffix: str = "") -> str:
    """Return the columns that count the matching windows and the events of a condition."""
    begins = f"{hit} and ({hit}_before is null or start > {hit}_before + 1e-6)"
    seconds = f'greatest(0, "end" - greatest(start, coalesce({hit}_before, start)))'
    last = f"count(distinct path) filter ({hit}) as recordings{suffix}" if suffix else _hours_column()
    return (
        f"count(*) filter ({hit}) as matching{suffix}, count(*) filter ({begins}) as events{suffix}, "
        f"coalesce(sum({seconds}) filter ({hit}), 0) / 60 as minutes{suffix}, {last}"
    )


def _hours_column() -> str:
    """Return the column of the tagged hours, in which overlapping windows count once."""
    return 'coalesce(sum(greatest(0, "end" - greatest(start, coalesce(before, start)))), 0) / 3600 as hours'


def _check_probabilities(tokens: Sequence[tuple[str | None, str]], index: int, text: str) -> None:
    """Refuse a label that is compared with a number outside [0, 1]."""
    comparisons = ("<", ">", "<=", ">=", "=", "==", "<>", "!=")
    after = [token for _, token in tokens[index + 1 : index + 5]]
    numbers = []
    if after and after[0] in comparisons:
        numbers += tokens[index + 2 : index + 3]
    if after and after[0].lower() == "between":
        numbers += [*tokens[index + 2 : index + 3], *tokens[index + 4 : index + 5]]
    if index > 1 and tokens[index - 1][1] in comparisons:
        numbers.append(tokens[index - 2])
    for kind, token in numbers:
        if kind == "number" and not 0 <= float(token) <= 1:
            raise UserError(f"the condition {text!r} has {token}, but probabilities are from 0 to 1")


def _reaches_threshold(label: str, thresholds: Mapping[str, float] | None) -> str:
    """Return the condition that a label reaches its threshold, in the precision of the probabilities."""
    return f"({_quoted(label)} >= {(thresholds or {}).get(label, 0.5)!r}::float)"


def _reason(error: duckdb.Error) -> str:
    """Return the first line of DuckDB's message without the kind of error."""
    return str(error).split("\n")[0].split(": ", 1)[-1]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
