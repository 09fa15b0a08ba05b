"""The sections ``labels`` and ``label_quality`` of params.yaml: rules by name, each with its settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ust.annotations.annotations import SPLITS
from ust.annotations.labels import Rule
from ust.annotations.rules.registry import RULES
from ust.util.config import (
    Count,
    Name,
    Section,
    Seed,
    explain_validation_error,
    parameter_error,
    read_sections,
)
from ust.util.documents import read_yaml
from ust.util.errors import UserError


class LabelQuality(Section):
    """The section ``label_quality``: which rules are compared with the first of them, and where."""

    split: Literal[SPLITS]
    bootstrap: Count
    seed: Seed
    doubtful: Count  # clips to listen to, of each label
    annotators: Name  # the rule by whose model they are judged
    rules: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]  # rows as of labels


def read_label_quality(path: Path) -> tuple[LabelQuality, dict[str, tuple[Rule, Section]]]:
    """The section ``label_quality`` and its rules.

    Raises
    ------
    UserError
        Naming each parameter of its that is wrong.
    """
    (section,) = read_sections(path, label_quality=LabelQuality)
    problems = check_label_quality(section)
    if problems:
        raise parameter_error(path, problems)
    return section, {name: _rule(row) for name, row in section.rules.items()}


def check_label_quality(section: LabelQuality) -> list[str]:
    """What is wrong with its rules."""
    problems = check_rules("label_quality.rules", section.rules)
    problems += [
        f"label_quality.rules.{name}.rule: is {row['rule']!r}, which needs embeddings; rules are "
        "compared by the annotations alone: should be another, and that one a row of relabel"
        for name, row in section.rules.items()
        if row.get("rule") in RULES and RULES[row["rule"]].listens
    ]
    of_pooled = [n for n, row in section.rules.items() if row.get("rule") == "pooled"]
    if section.annotators not in of_pooled:
        wanted = f"a row of its rules of the rule pooled: {', '.join(of_pooled) or 'there is none'}"
        problems.append(f"label_quality.annotators: is {section.annotators!r}, should be {wanted}")
    return problems


def read_rule(path: Path, name: str) -> tuple[Rule, Section]:
    """A rule of a parameter file and its settings.

    Raises
    ------
    UserError
        If there is no such row, or naming each parameter of its that is wrong.
    """
    content = read_yaml(path)
    tables = {table: content.get(table) for table in ("labels", "relabel")}
    for table, rows in tables.items():
        if isinstance(rows, dict) and name in rows:
            problems = check_rules(table, {name: rows[name]}, listens=table == "relabel")
            if problems:
                raise parameter_error(path, problems)
            return _rule(rows[name])
    there = [str(row) for rows in tables.values() if isinstance(rows, dict) for row in rows]
    raise UserError(f"{path}: labels has no {name!r}; it has {', '.join(there) or 'none'}")


def check_rules(where: str, rows: Mapping[str, Any], *, listens: bool | None = None) -> list[str]:
    """List the problems of the rows of a table.

    Parameters
    ----------
    where : str
        The table's name.
    rows : mapping
    listens : bool, optional
        Whether its rules need embeddings; by default those of ``labels`` do not, others may.
    """
    if listens is None and where == "labels":
        listens = False
    return [problem for name, row in rows.items() for problem in _check(f"{where}.{name}", row, listens)]


def _check(place: str, row: Any, listens: bool | None) -> list[str]:
    if not isinstance(row, dict):
        return [f"{place}: is {row!r}, should be a mapping of a rule and its parameters"]
    if row.get("rule") not in list(RULES):
        return [f"{place}.rule: is {row.get('rule')!r}, should be one of {', '.join(RULES)}"]
    if listens is not None and RULES[row["rule"]].listens != listens:
        needs, table = ("needs no embeddings", "labels") if listens else ("needs embeddings", "relabel")
        return [f"{place}.rule: is {row['rule']!r}, which {needs}: make it a row of {table}"]
    kind = RULES[row["rule"]].settings
    try:
        kind(**_settings(row))
    except ValidationError as error:
        return explain_validation_error(error, kind, f"{place}.")
    return []


def _rule(row: Mapping[str, Any]) -> tuple[Rule, Section]:
    rule = RULES[row["rule"]]
    return rule, rule.settings(**_settings(row))


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items() if key != "rule"}
