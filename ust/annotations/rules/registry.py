"""The registry of label aggregation rules, and the sections of params.yaml that have rows of rules."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ust.annotations.labels import Rule
from ust.annotations.rules import any as any_rule
from ust.annotations.rules import dawid_skene, fraction, glad, majority, pooled, relabel, verified
from ust.util.config import (
    Name,
    PositiveInt,
    Section,
    Seed,
    explain_validation_error,
    parameter_error,
    read_sections,
)
from ust.util.documents import read_yaml
from ust.util.errors import UserError
from ust.util.names import SPLITS

# Each rule is in the module of its name.
RULES: dict[str, Rule] = {
    "majority": majority.RULE,
    "any": any_rule.RULE,
    "fraction": fraction.RULE,
    "dawid_skene": dawid_skene.RULE,
    "glad": glad.RULE,
    "pooled": pooled.RULE,
    "relabel": relabel.RULE,
    "verified": verified.RULE,
}
# Whether the rules of a section need the outputs of a model.
NEEDS_MODEL_OUTPUTS = {"labels": False, "relabel": True}


class LabelQuality(Section):
    """The section ``label_quality``: the rules to compare with the first of them, and the split to use."""

    split: Literal[SPLITS] = "validate"
    """Split whose ground truth the rules are compared with."""
    bootstrap: PositiveInt = 1000
    """Resamples of the clips for the 95 % intervals."""
    seed: Seed = 2019
    """Seed of the resamples."""
    doubtful: PositiveInt = 5
    """Doubtful clips to list for each label, where the annotator model and the majority differ most."""
    annotators: Name = "pooled"
    """Row of ``rules`` whose model rates the annotators."""
    rules: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """Rows as in ``labels``; all are compared with the first."""


def read_label_quality(path: Path) -> tuple[LabelQuality, dict[str, tuple[Rule, Section]]]:
    """Return the section ``label_quality`` and its rules with their settings."""
    (section,) = read_sections(path, label_quality=LabelQuality)
    if problems := check_label_quality(section):
        raise parameter_error(path, problems)
    return section, {name: _parse_rule(row) for name, row in section.rules.items()}


def check_label_quality(section: LabelQuality) -> list[str]:
    """Return the problems of the rules in ``label_quality``."""
    problems = check_rules("label_quality.rules", section.rules)
    problems += [
        f"label_quality.rules.{name}.rule: is {row['rule']!r}, which needs model outputs; rules are "
        "compared by the annotations alone: choose another one, and use this one as a row of relabel"
        for name, row in section.rules.items()
        if row.get("rule") in RULES and RULES[row["rule"]].needs_model_outputs
    ]
    problems += [
        f"label_quality.rules.{name}.rule: is {row['rule']!r}, which aggregates labels but does not estimate "
        "their probabilities: its module needs `rule_from_estimate`"
        for name, row in section.rules.items()
        if row.get("rule") in RULES and RULES[row["rule"]].estimate is None
    ]
    pooled_rows = [name for name, row in section.rules.items() if row.get("rule") == "pooled"]
    if section.annotators not in pooled_rows:
        expected = f"a row of its rules of the rule pooled: {', '.join(pooled_rows) or 'there is none'}"
        problems.append(f"label_quality.annotators: is {section.annotators!r}, should be {expected}")
    return problems


def read_rule(path: Path, name: str) -> tuple[Rule, Section]:
    """Return a rule of the section ``labels`` or ``relabel``, and its settings."""
    content = read_yaml(path)
    sections = {section: content.get(section) for section in NEEDS_MODEL_OUTPUTS}
    for section, rows in sections.items():
        if isinstance(rows, dict) and name in rows:
            if problems := check_rules(section, {name: rows[name]}):
                raise parameter_error(path, problems)
            return _parse_rule(rows[name])
    names = [str(row) for rows in sections.values() if isinstance(rows, dict) for row in rows]
    places = " and ".join(sections)
    raise UserError(f"{path}: there is no rule {name!r}; {places} have {', '.join(names) or 'none'}")


def check_rules(section: str, rows: Mapping[str, Any]) -> list[str]:
    """Return the problems of a section's rules."""
    problems = []
    for name, row in rows.items():
        path = f"{section}.{name}"
        if not isinstance(row, dict):
            problems.append(f"{path}: is {row!r}, should be a mapping of a rule and its parameters")
        elif row.get("rule") not in list(RULES):
            problems.append(f"{path}.rule: is {row.get('rule')!r}, should be one of {', '.join(RULES)}")
        elif NEEDS_MODEL_OUTPUTS.get(section, needed := RULES[row["rule"]].needs_model_outputs) != needed:
            needs, table = ("model outputs", "relabel") if needed else ("no model outputs", "labels")
            problems.append(f"{path}.rule: is {row['rule']!r}, which needs {needs}: make it a row of {table}")
        else:
            try:
                _parse_rule(row)
            except ValidationError as error:
                settings = RULES[row["rule"]].settings
                problems += explain_validation_error(error, settings, f"{path}.")
    return problems


def _parse_rule(row: Mapping[str, Any]) -> tuple[Rule, Section]:
    """Return the rule of a row and its settings."""
    rule = RULES[row["rule"]]
    return rule, rule.settings(**{str(key): value for key, value in row.items() if key != "rule"})
