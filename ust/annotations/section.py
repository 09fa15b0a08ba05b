"""The table ``labels`` of params.yaml: rules by name, each with its settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ust.annotations.labels import Rule
from ust.annotations.table import RULES
from ust.files.documents import read_yaml
from ust.files.errors import UserError
from ust.files.settings import Section, explain, wrong


def read_rule(path: Path, name: str) -> tuple[Rule, Section]:
    """A rule of a parameter file and its settings.

    Raises
    ------
    UserError
        If there is no such row, or naming each parameter of its that is wrong.
    """
    rows = read_yaml(path).get("labels")
    if not isinstance(rows, dict) or name not in rows:
        there = ", ".join(map(str, rows)) if isinstance(rows, dict) else "none"
        raise UserError(f"{path}: labels has no {name!r}; it has {there}")
    problems = check_rule(name, rows[name])
    if problems:
        raise wrong(path, problems)
    rule = RULES[rows[name]["rule"]]
    return rule, rule.settings(**_settings(rows[name]))


def check_rule(name: str, row: Any) -> list[str]:
    """What is wrong with a row."""
    if not isinstance(row, dict):
        return [f"labels.{name}: is {row!r}, should be a mapping of a rule and its parameters"]
    if row.get("rule") not in list(RULES):
        return [f"labels.{name}.rule: is {row.get('rule')!r}, should be one of {', '.join(RULES)}"]
    kind = RULES[row["rule"]].settings
    try:
        kind(**_settings(row))
    except ValidationError as error:
        return explain(error, kind, f"labels.{name}.")
    return []


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items() if key != "rule"}
