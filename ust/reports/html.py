"""Filling the page's template."""

import base64
from pathlib import Path
from typing import Any

from ust.util.documents import render_template

TEMPLATE = "page.html.jinja"


def data_uri(content: bytes, kind: str) -> str:
    """Content as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def render_page(**content: Any) -> str:
    """The page as HTML, with nothing left to be fetched."""
    return render_template(Path(__file__).parent / TEMPLATE, html=True, **content)
