"""The files of the project that a file imports, by its syntax tree."""

import ast
from pathlib import Path

from conftest import ROOT


def module_file(name: str, root: Path = ROOT) -> Path | None:
    """The project's file of a dotted module name, None for other packages."""
    path = root.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if name.split(".")[0] in ("ust", "stages") and candidate.is_file():
            return candidate
    return None


def direct_imports(path: Path, root: Path = ROOT) -> set[Path]:
    """The project's files that a file's import statements execute."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    # Importing a.b.c executes a and a.b, too.
    names |= {".".join(name.split(".")[:i]) for name in names for i in range(1, name.count(".") + 1)}
    return {file for file in (module_file(name, root) for name in names) if file}
