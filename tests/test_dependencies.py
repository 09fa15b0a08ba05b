"""What dvc.yaml says a stage depends on is what its script imports, no more and no less."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
# Scripts beside the stages that no pipeline runs.
TOOLS = {"compare", "export", "tag"}


def module_file(name: str) -> Path | None:
    """The project's file of a dotted module name, None for other packages."""
    path = ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if name.split(".")[0] in ("ust", "stages") and candidate.is_file():
            return candidate
    return None


def direct_imports(path: Path) -> set[Path]:
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
    return {file for file in map(module_file, names) if file}


def imported_files(path: Path) -> set[str]:
    """All project files that running a stage script executes, relative to the root."""
    found, todo = set(), {path, path.parent / "__init__.py"}
    while todo:
        file = todo.pop()
        found.add(file)
        todo |= direct_imports(file) - found
    return {str(file.relative_to(ROOT)) for file in found}


def dvc_yaml() -> dict:
    """The pipeline as it stands."""
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))


def stages() -> dict[str, dict]:
    """The stages of dvc.yaml; those of a foreach as what it repeats."""
    text = dvc_yaml()
    return {name: stage.get("do", stage) for name, stage in text["stages"].items()}


def script(stage: dict) -> Path:
    """The script a stage runs."""
    words = stage["cmd"].split()
    return ROOT.joinpath(*words[words.index("-m") + 1].split(".")).with_suffix(".py")


@pytest.mark.parametrize("name", stages())
def test_declared_code_is_what_the_script_imports(name):
    stage = stages()[name]
    declared = {dep for dep in stage["deps"] if dep.endswith(".py")}
    assert declared == imported_files(script(stage))


@pytest.mark.parametrize("name", stages())
def test_declared_params_are_the_sections_the_script_loads(name):
    stage = stages()[name]
    loaded = set()
    for node in ast.walk(ast.parse(script(stage).read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load":
            loaded |= {ast.literal_eval(argument) for argument in node.args[1:]}
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load_system":
            # A row of the table, and the sections it is completed from.
            table = "hierarchies" if name == "train_hierarchy" else "systems"
            loaded |= {"model", "${item.recipe}", table + ".${key}"}
    # DVC itself puts this one into the command line.
    assert set(stage.get("params", [])) - {"submission"} == loaded


def test_every_system_is_trained_predicted_scored_and_in_the_tables():
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    (variables,) = dvc_yaml()["vars"]
    checkpoints = variables["checkpoints"]
    rows = params["systems"].keys() | params["hierarchies"].keys()
    assert {folder.split("/")[0] for folder in checkpoints.values()} == rows
    assert params["submission"] in checkpoints
    metrics = [f"metrics/{name}.json" for name in checkpoints]
    table = stages()["table"]
    assert [dep for dep in table["deps"] if dep.startswith("metrics/")] == metrics
    assert [word for word in table["cmd"].split() if word in metrics] == metrics
    report = stages()["report"]
    curves = [word for word in report["cmd"].split() if word.startswith("metrics/training/")]
    assert curves == [dep for dep in report["deps"] if dep.startswith("metrics/training/")]
    assert {Path(folder).name for folder in curves} == rows


def test_every_script_is_a_stage():
    scripts = {path for path in (ROOT / "stages").glob("*.py") if path.name != "__init__.py"}
    tools = {ROOT / "stages" / f"{name}.py" for name in TOOLS}
    assert scripts == {script(stage) for stage in stages().values()} | tools


def test_imports_have_no_cycles():
    graph = {path: direct_imports(path) - {path} for path in (ROOT / "ust").rglob("*.py")}
    while graph:
        leaves = [path for path, needs in graph.items() if not needs & graph.keys()]
        assert leaves, f"cycle among {sorted(path.name for path in graph)}"
        for leaf in leaves:
            del graph[leaf]


def test_the_library_reads_no_parameters_and_no_fixed_path():
    for path in (ROOT / "ust").rglob("*.py"):
        source = path.read_text("utf-8")
        assert "params.yaml" not in "".join(
            ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
        ), path
