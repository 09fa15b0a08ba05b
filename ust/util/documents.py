"""Read and write JSON and YAML; render Jinja templates and Markdown tables.

YAML is version 1.2, which DVC writes: 1e-06 is a number.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ust.util.errors import UserError, single_line
from ust.util.files import write_text

MAX_BYTES, MAX_DEPTH = 2**18, 20  # size and nested levels of a YAML file


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a mapping from a YAML file; tags that would create Python objects are not executed."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"{path}: is {path.stat().st_size:,} bytes long: not a file of parameters or labels"
            )
        text = path.read_text("utf-8")
        depth = 0
        for event in YAML(typ="safe", pure=True).parse(text):
            where = f"{path}: line {event.start_mark.line + 1}"
            if isinstance(event, AliasEvent):
                raise UserError(f"{where}: aliases are not supported; write the value itself")
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise UserError(f"{where}: more than {MAX_DEPTH} nested levels")
        content = YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run this in the project's folder, or name the file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, should be a YAML file") from None
    except (YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {single_line(error, limit=500)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: should be a mapping of names to values, is {type(content).__name__}")
    return content


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as YAML; keys keep their order."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.representer.ignore_aliases = lambda _: True
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with a fixed layout, so that equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a mapping from a JSON file written by the stage `made_by`."""
    problem = f"not a file of the stage {made_by}, or damaged"
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage {made_by} makes it") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, should be a file of the stage {made_by}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {problem} ({error}); name another, or run that stage again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: {problem}; name another, or run that stage again")
    return content


def render_template(path: Path, *, html: bool = False, **content: Any) -> str:
    """Render a Jinja template; an undefined variable is an error."""
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


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
