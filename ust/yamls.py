"""Reading YAML as YAML 1.2, the dialect DVC writes (in which 1e-06 is a number)."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ust.errors import UserError


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a mapping from a YAML file without building any object but the plain ones.

    Raises
    ------
    UserError
        If the file is missing, is not YAML, has a key twice, or holds no mapping.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: should be a mapping of names to values, is {type(content).__name__}")
    return content


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as YAML, in its own order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
