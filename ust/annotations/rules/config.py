"""The sections ``labels`` and ``label_quality`` of params.yaml: rules by name, each with its parameters."""

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
    """The section ``label_quality``: the rules to compare with the first of them, and the split to use."""

    split: Literal[SPLITS] = "validate"
    """Split whose ground truth the rules are compared with."""
    bootstrap: Count = 1000
    """Resamples of the clips for the 95 % intervals."""
    seed: Seed = 2019
    """Seed of the resamples."""
    doubtful: Count = 5
    """Doubtful clips to list for each label, where the annotator model and the majority differ most."""
    annotators: Name = "pooled"
    """Row of ``rules`` whose model rates the annotators."""
    rules: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """Rows as in ``labels``; all are compared with the first."""


def read_label_quality(path: Path) -> tuple[LabelQuality, dict[str, tuple[Rule, Section]]]:
    """Return the section ``label_quality`` and its rules with their settings."""
    (section,) = read_sections(path, label_quality=LabelQuality)
    problems = check_label_quality(section)
    if problems:
        raise parameter_error(path, problems)
    return section, {name: _parse_rule(row) for name, row in section.rules.items()}


def check_label_quality(section: LabelQuality) -> list[str]:
    """Return the problems of the rules in ``label_quality``."""
    problems = check_rules("label_quality.rules", section.rules)
    problems += [
        f"label_quality.rules.{name}.rule: is {row['rule']!r}, which needs a listener; rules are "
        "compared by the annotations alone: choose another one, and use this one as a row of relabel"
        for name, row in section.rules.items()
        if row.get("rule") in RULES and RULES[row["rule"]].has_listener
    ]
    pooled_rows = [n for n, row in section.rules.items() if row.get("rule") == "pooled"]
    if section.annotators not in pooled_rows:
        expected = f"a row of its rules of the rule pooled: {', '.join(pooled_rows) or 'there is none'}"
        problems.append(f"label_quality.annotators: is {section.annotators!r}, should be {expected}")
    return problems


def read_rule(path: Path, name: str) -> tuple[Rule, Section]:
    """Return a rule of the section ``labels`` and its settings."""
    content = read_yaml(path)
    tables = {table: content.get(table) for table in ("labels", "relabel")}
    for table, rows in tables.items():
        if isinstance(rows, dict) and name in rows:
            problems = check_rules(table, {name: rows[name]}, has_listener=table == "relabel")
            if problems:
                raise parameter_error(path, problems)
            return _parse_rule(rows[name])
    names = [str(row) for rows in tables.values() if isinstance(rows, dict) for row in rows]
    raise UserError(f"{path}: labels has no {name!r}; it has {', '.join(names) or 'none'}")


def check_rules(section: str, rows: Mapping[str, Any], *, has_listener: bool | None = None) -> list[str]:
    """Return the problems of a section's rules.

    Rules of ``labels`` may not have a listener and rules of ``relabel`` must: `has_listener`, None where
    both kinds are allowed.
    """
    if has_listener is None and section == "labels":
        has_listener = False
    return [
        problem
        for name, row in rows.items()
        for problem in _check_rule(f"{section}.{name}", row, has_listener)
    ]


def _check_rule(path: str, row: Any, has_listener: bool | None) -> list[str]:
    """Return the problems of a row, whose dotted path is `path`."""
    if not isinstance(row, dict):
        return [f"{path}: is {row!r}, should be a mapping of a rule and its parameters"]
    if row.get("rule") not in list(RULES):
        return [f"{path}.rule: is {row.get('rule')!r}, should be one of {', '.join(RULES)}"]
    if has_listener is not None and RULES[row["rule"]].has_listener != has_listener:
        needs, table = ("no listener", "labels") if has_listener else ("a listener", "relabel")
        return [f"{path}.rule: is {row['rule']!r}, which needs {needs}: make it a row of {table}"]
    kind = RULES[row["rule"]].settings
    try:
        kind(**_settings(row))
    except ValidationError as error:
        return explain_validation_error(error, kind, f"{path}.")
    return []


def _parse_rule(row: Mapping[str, Any]) -> tuple[Rule, Section]:
    """Return the rule of a valid row and its settings."""
    rule = RULES[row["rule"]]
    return rule, rule.settings(**_settings(row))


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a row, without the name of its rule."""
    return {str(key): value for key, value in row.items() if key != "rule"}
