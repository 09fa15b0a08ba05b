"""The trainers by name, each in the module of its name, and reading of systems from a parameter file."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ust.models.registry import ARCHITECTURES
from ust.training import (
    train,
    train_augmented,
    train_baseline,
    train_finetune,
    train_head,
    train_hierarchical,
    train_hierarchical_code,
    untrained,
)
from ust.training.config import SystemConfig, SystemTrainer
from ust.util.config import Section, explain_validation_error, parameter_error, read_sections
from ust.util.documents import read_yaml
from ust.util.errors import UserError

TRAINERS: dict[str, SystemTrainer] = {
    "train": train.TRAINER,
    "train_augmented": train_augmented.TRAINER,
    "train_hierarchical": train_hierarchical.TRAINER,
    "train_hierarchical_code": train_hierarchical_code.TRAINER,
    "train_baseline": train_baseline.TRAINER,
    "train_head": train_head.TRAINER,
    "train_finetune": train_finetune.TRAINER,
    "untrained": untrained.TRAINER,
}
TABLES = ("systems", "hierarchies", "pretrained")


def read_system_config(path: Path, name: str) -> SystemConfig:
    """Read a system from a parameter file.

    Settings that its row leaves out or sets to null are taken from the section ``model`` and the section of
    its trainer and, where these leave them out, from the classes of the settings.
    """
    content = read_yaml(path)
    tables = {table: content[table] for table in TABLES if isinstance(content.get(table), dict)}
    table_of = {row: table for table, rows in tables.items() for row in rows}
    if name not in table_of:
        raise UserError(f"{path}: there is no system {name!r}; there are {', '.join(map(str, table_of))}")
    table = table_of[name]
    row = tables[table][name]
    read_sections(path, **{key: TRAINERS[key].settings for key in section_names(trainer_name(table, row))})
    problems = check_networks(content.get("model", {}))
    if not problems:
        config, problems = build_system_config(table, name, row, content)
    if problems:
        raise parameter_error(path, problems)
    return config


def trainer_name(table: str, row: Any) -> str:
    """Return the name of a row's trainer; the table's first one if the row names none of the table."""
    known = table_trainers(table)
    name = row.get("trainer") if isinstance(row, dict) else None
    return name if name in known else known[0]


def table_trainers(table: str) -> list[str]:
    """Return the names of the trainers of a table."""
    return [name for name, trainer in TRAINERS.items() if trainer.row.table == table]


def section_names(trainer: str) -> list[str]:
    """Return the sections with the settings of a trainer; a later one takes precedence."""
    inherited = TRAINERS[trainer].inherits
    return [inherited, trainer] if inherited else [trainer]


def check_networks(model: Any) -> list[str]:
    """Return one line per wrong parameter of the section ``model``, which has a section per architecture."""
    if not isinstance(model, dict):
        return [f"model: is {model!r}, should be a mapping of architectures"]
    problems = []
    for name, section in model.items():
        if name not in ARCHITECTURES:
            problems.append(_unknown_parameter(name, list(ARCHITECTURES), "model"))
            continue
        kind = ARCHITECTURES[name].Config
        try:
            kind.model_validate(section)
        except ValidationError as error:
            where = f"model.{name}"
            problems += explain_validation_error(error, kind, where + "." * isinstance(section, dict))
    return problems


def build_system_config(
    table: str, name: str, row: Any, content: Mapping[str, Any]
) -> tuple[SystemConfig | None, list[str]]:
    """Build a system from its row and the valid sections of its architecture and trainer."""
    where = f"{table}.{name}"
    if not isinstance(row, dict):
        return None, [f"{where}: is {row!r}, should be a mapping of parameters"]
    key = trainer_name(table, row)
    trainer = TRAINERS[key]
    if row.get("trainer") != key:
        known = ", ".join(table_trainers(table))
        return None, [f"{where}.trainer: is {row.get('trainer')!r}, should be one of {known}"]
    if row.get("architecture") not in trainer.trains:
        wanted = f"one of {', '.join(trainer.trains)}, the architectures of {key}"
        return None, [f"{where}.architecture: is {row.get('architecture')!r}, should be {wanted}"]
    network = content.get("model", {}).get(row["architecture"], {})
    training = {setting: value for each in section_names(key) for setting, value in content[each].items()}
    sections = ({}, network, training)
    kinds = (trainer.row, ARCHITECTURES[row["architecture"]].Config, trainer.settings)
    given = {setting: value for setting, value in row.items() if value is not None}
    known = [field for kind in kinds for field in kind.model_fields]
    problems = [_unknown_parameter(each, known, where) for each in row if each not in known]
    parts: list[Section] = []
    for kind, section in zip(kinds, sections, strict=True):
        own = {setting: value for setting, value in given.items() if setting in kind.model_fields}
        try:
            parts.append(kind.model_validate(section | own))
        except ValidationError as error:
            problems += explain_validation_error(error, kind, f"{where}.")
    if problems:
        return None, problems
    config = SystemConfig(*parts)
    try:
        config.inputs  # noqa: B018 - raises if the architecture takes other features
    except ValueError as error:
        return None, [f"{where}.features: {error}"]
    return config, []


def _unknown_parameter(key: str, known: list[str], where: str) -> str:
    """Return the error for a key that is not a parameter."""
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {where}.{close[0]}?" if close else ""
    return f"{where}.{key}: there is no such parameter{hint}"
