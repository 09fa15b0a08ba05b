"""Imports between packages point downwards, and commands start without heavy imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from imports import direct_imports

ORDER = ("util", "audio", "annotations", "datasets", "features", "models", "evaluation", "training",
         "tagging", "archive", "reports", "custom", "cli")  # fmt: skip
HEAVY = ("torch", "pandas", "numpy", "librosa", "pydantic", "joblib", "h5py", "sklearn", "matplotlib", "tqdm")


def package(path: Path) -> str:
    """Return the package of ust that a file is in; "" for ust itself."""
    parts = path.relative_to(ROOT / "ust").parts
    return parts[0] if len(parts) > 1 else ""


def test_packages_import_downwards_only():
    for path in (ROOT / "ust").rglob("*.py"):
        own = package(path)
        for other in direct_imports(path):
            assert other.is_relative_to(ROOT / "ust"), f"{path} imports a stage"
            needed = package(other)
            if own and needed:
                assert ORDER.index(needed) <= ORDER.index(own), f"{path} imports {other}"
            assert own or not needed or path.name != "__init__.py", f"{path}: imports before it is asked"


def test_every_package_is_in_the_order():
    assert {
        path.name for path in (ROOT / "ust").iterdir() if path.is_dir() and path.name != "__pycache__"
    } == set(ORDER)


def test_imports_have_no_cycles():
    graph = {path: direct_imports(path) - {path} for path in (ROOT / "ust").rglob("*.py")}
    while graph:
        leaves = [path for path, needs in graph.items() if not needs & graph.keys()]
        assert leaves, f"cycle among {sorted(path.name for path in graph)}"
        for leaf in leaves:
            del graph[leaf]


def test_library_reads_no_params_yaml_and_no_fixed_path():
    for path in (ROOT / "ust").rglob("*.py"):
        if package(path) != "cli":
            source = path.read_text("utf-8")
            assert "params.yaml" not in "".join(
                ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
            ), path


def test_arguments_are_parsed_before_heavy_imports():
    """`import ust` and the help of each stage need no heavy package."""
    names = ["ust", *(f"stages.{path.stem}" for path in sorted((ROOT / "stages").glob("[a-z]*.py")))]
    program = (
        "import sys, importlib\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        f"    print(name, *(m for m in {HEAVY} if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == names


def test_documented_api_exists():
    import ust

    assert {"Tagger", "evaluate", "load_audio", "read_annotations"} <= set(dir(ust))
    for name in ust.__all__:
        assert getattr(ust, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'forest'"):
        _ = ust.forest
