"""Read ``systems`` and ``hierarchies`` of params.yaml, completed by the sections of recipe and model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model

from ust.models.registry import ARCHITECTURES
from ust.training.config import HierarchyConfig, SystemConfig, system_model
from ust.training.registry import RECIPES
from ust.util.config import Section, explain_validation_error, parameter_error, read_sections
from ust.util.documents import read_yaml
from ust.util.errors import UserError

TABLES = ("systems", "hierarchies")


class _SetByRecipe(Section):
    """The settings of an architecture whose recipe has them all."""


# The section ``model``: of each architecture its settings, None where the file does not name it.
_ARCHITECTURES: dict[str, Any] = {
    name: ((_SetByRecipe if network.of_frames else network.Config) | None, None)
    for name, network in ARCHITECTURES.items()
}
Model = create_model("Model", __base__=Section, **_ARCHITECTURES)


def architecture_defaults(model: Any, row: Any) -> dict[str, Any]:
    """Return the settings that the section ``model`` has for the architecture of a row."""
    architecture = row.get("architecture") if isinstance(row, dict) else None
    section = getattr(model, architecture, None) if architecture in list(ARCHITECTURES) else None
    return dict(section) if section is not None else {}


def read_system(path: Path, name: str) -> SystemConfig:
    """Read a system from a parameter file.

    Parameters that its row leaves out or sets to null are taken from the sections of its recipe and
    ``model``.

    Raises
    ------
    UserError
        If there is no such system, or a parameter of it is wrong.
    """
    content = read_yaml(path)
    rows = {table: content.get(table) for table in TABLES}
    there = {each: table for table, some in rows.items() for each in (some if isinstance(some, dict) else ())}
    if name not in there:
        raise UserError(f"{path}: systems has no {name!r}; it has {', '.join(map(str, there))}")
    table = there[name]
    row = content[table][name]
    recipe = recipe_of(table, row)
    kinds = {recipe: RECIPES[recipe].settings} | ({"model": Model} if "model" in content else {})
    settings, *model = read_sections(path, **kinds)
    defaults = dict(settings) | (architecture_defaults(model[0], row) if model else {})
    system, problems = complete_system(table, name, row, defaults)
    if problems:
        raise parameter_error(path, problems)
    return system


def recipe_of(table: str, row: Any) -> str:
    """Return a row's recipe.

    For an unknown recipe it is the table's first one; `complete_system` reports the error.
    """
    known = [
        name
        for name, recipe in RECIPES.items()
        if issubclass(recipe.row, HierarchyConfig) == (table == TABLES[1])
    ]
    recipe = row.get("recipe") if isinstance(row, dict) else None
    return recipe if recipe in known else known[0]


def complete_system(
    table: str, name: str, row: Any, defaults: Mapping[str, Any]
) -> tuple[SystemConfig | None, list[str]]:
    """Complete a system's row by the defaults of the sections, and validate it.

    Returns
    -------
    system : SystemConfig or None
        None if there are problems.
    problems : list of str
        Errors in the row.
    """
    where = f"{table}.{name}"
    if not isinstance(row, dict):
        return None, [f"{where}: is {row!r}, should be a mapping of parameters"]
    recipe = recipe_of(table, row)
    if row.get("recipe") != recipe:
        known = [each for each in RECIPES if recipe_of(table, {"recipe": each}) == each]
        return None, [f"{where}.recipe: is {row.get('recipe')!r}, should be one of {', '.join(known)}"]
    of_frames = RECIPES[recipe].row.of_frames
    possible = [each for each, network in ARCHITECTURES.items() if network.of_frames == of_frames]
    if row.get("architecture") not in possible:
        given = repr(row.get("architecture"))
        wanted = f"one of {', '.join(possible)}, which the recipe {recipe} trains"
        return None, [f"{where}.architecture: is {given}, should be {wanted}"]
    kind = system_model(RECIPES[recipe].row, row["architecture"], RECIPES[recipe].settings)
    given = {key: value for key, value in row.items() if value is not None}
    known = {key: value for key, value in defaults.items() if key in kind.model_fields}
    try:
        system = kind.model_validate(known | given)
        system.inputs  # noqa: B018 - raises where it takes other features
    except ValidationError as error:
        return None, explain_validation_error(error, kind, f"{where}.")
    except ValueError as error:
        return None, [f"{where}.features: {error}"]
    return system, []
