"""Filling a template that lies beside the module that uses it."""

from pathlib import Path
from typing import Any


def fill(path: Path, *, html: bool = False, **content: Any) -> str:
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
