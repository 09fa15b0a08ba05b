"""The code that a module rests on, by digests of syntax trees: comments and docstrings change nothing.

A table of parts, a module named ``registry``, is a dictionary of rows that come from modules of
their own. Whoever uses some of its rows rests on those alone: another row changes nothing for him.
"""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGES = ("ust", "stages")
TABLE = "registry"


def code_digests(root: Path, module: str, rows: Mapping[str, frozenset[str]] | None = None) -> dict[str, str]:
    """The project's files that running a module executes or reads, and a digest of what each says.

    Parameters
    ----------
    root : Path
        The folder that holds the packages.
    module : str
        Dotted name.
    rows : mapping of str to frozenset of str, optional
        By the name of a table's module, the rows that are used; of tables not named all are.

    Returns
    -------
    dict of str to str
        By path relative to `root`, sorted.
    """
    rows = rows or {}
    found: dict[str, str] = {}
    todo = {module}
    while todo:
        name = todo.pop()
        path = _file(root, name)
        key = path.relative_to(root).as_posix() if path else ""
        if path is None or key in found:
            continue
        wanted = rows.get(name) if name.rpartition(".")[2] == TABLE else None
        code = _read(path.read_text("utf-8"), wanted)
        found[key] = code.digest
        todo |= {whole for imported in code.imports for whole in _parents(imported)} | set(_parents(module))
        for data in path.parent.iterdir():
            if data.suffix != ".py" and data.name in code.strings and data.is_file():
                found[data.relative_to(root).as_posix()] = _digest(data.read_bytes())
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class _Code:
    """What a file says: its digest, what it imports, and its strings, which may name files beside it."""

    digest: str
    imports: frozenset[str]
    strings: frozenset[str]


@cache
def _read(text: str, wanted: frozenset[str] | None) -> _Code:
    """What a module says without its docstrings; of a table with only the rows that are wanted."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    if wanted is not None:
        tree = _only(tree, wanted)
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    digest = _digest(ast.unparse(tree).encode())
    return _Code(digest, frozenset(_imports(tree)), frozenset(s for s in strings if isinstance(s, str)))


def _file(root: Path, name: str) -> Path | None:
    """The file of a dotted name; None for another package's, or for what is not a module but in one."""
    path = root.joinpath(*name.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((p for p in candidates if name.split(".")[0] in PACKAGES and p.is_file()), None)


def _parents(name: str) -> list[str]:
    """What importing a.b.c executes: a, a.b and a.b.c."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _imports(tree: ast.Module) -> Iterator[str]:
    """What a module imports, anywhere in it; of ``from a import b`` also a.b, which may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _only(tree: ast.Module, wanted: frozenset[str]) -> ast.Module:
    """A table with only some of its rows, and the imports that those need."""
    body: list[ast.stmt] = []
    for statement in tree.body:
        value = getattr(statement, "value", None)
        if isinstance(value, ast.Dict):
            rows = [
                (key, row)
                for key, row in zip(value.keys, value.values, strict=True)
                if isinstance(key, ast.Constant) and key.value in wanted
            ]
            value = ast.Dict([key for key, _ in rows], [row for _, row in rows])
            statement = ast.Assign([ast.Name("rows")], value, lineno=0)
        body.append(statement)
    used = {node.id for part in body for node in ast.walk(part) if isinstance(node, ast.Name)}
    kept: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.ImportFrom):
            names = [alias for alias in statement.names if (alias.asname or alias.name) in used]
            if names:
                kept.append(ast.ImportFrom(statement.module, names, statement.level))
        else:
            kept.append(statement)
    return ast.Module(kept, [])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
