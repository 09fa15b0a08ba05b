"""Reading and writing JSON, and YAML as YAML 1.2, the dialect DVC writes (in which 1e-06 is a number)."""

import json
from pathlib import Path
from typing import Any

from ust.util.errors import UserError
from ust.util.files import atomic_write

LARGEST, DEEPEST = 2**18, 20  # bytes, levels


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a mapping from a YAML file without building any object but the plain ones.

    Raises
    ------
    UserError
        If the file is missing, is not YAML, has a key twice or an alias (a few of them can stand for more
        than memory holds), is larger or deeper than any such file, or holds no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

    try:
        if path.stat().st_size > LARGEST:
            raise UserError(
                f"{path}: is {path.stat().st_size:,} bytes long: not a file of parameters or labels"
            )
        text = path.read_text("utf-8")
        depth = 0
        for event in YAML(typ="safe", pure=True).parse(text):
            where = f"{path}: line {event.start_mark.line + 1}"
            if isinstance(event, AliasEvent):
                raise UserError(f"{where}: aliases are not taken here; write the value itself")
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > DEEPEST:
                raise UserError(f"{where}: more than {DEEPEST} levels, one in the other")
        content = YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run this in the project's folder, or name the file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, should be a YAML file") from None
    except (YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:500]}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: should be a mapping of names to values, is {type(content).__name__}")
    return content


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as YAML, in its own order."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.representer.ignore_aliases = lambda _: True
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with a fixed layout: the same content gives the same bytes."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a mapping from a JSON file that the stage `made_by` writes.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    other = f"not a file of the stage {made_by}, or damaged"
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage {made_by} makes it") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, should be a file of the stage {made_by}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {other} ({error}); name another, or run that stage again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: {other}; name another, or run that stage again")
    return content


def render_template(path: Path, *, html: bool = False, **content: Any) -> str:
    """A Jinja template's text; a name that it asks for and is not given is an error.

    Parameters
    ----------
    path : Path
    html : bool
        Escape what is filled in.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
    )
    return environment.get_template(path.name).render(**content)
