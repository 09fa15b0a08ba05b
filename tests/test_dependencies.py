"""What a stage declares is what it uses: code by digests, parameters by section, files by its command."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from stages.code import stages as stages_of
from ust.util import code
from ust.util import digests as code_of_values

# Scripts beside the stages that no pipeline runs.
TOOLS = {"compare", "export", "leaderboard", "tag", "tag_archive"}
PACKAGES = ("annotations.rules", "features", "models", "datasets", "training")
TABLES = tuple(f"ust.{package}.registry" for package in PACKAGES)
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))


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


def imported_files(path: Path) -> set[str]:
    """All project files that running a stage script executes, relative to the root."""
    found, todo = set(), {path, path.parent / "__init__.py"}
    while todo:
        file = todo.pop()
        found.add(file)
        todo |= direct_imports(file) - found
    return {file.relative_to(ROOT).as_posix() for file in found}


def dvc_yaml() -> dict:
    """The pipeline as it stands."""
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))


def stages() -> dict[str, dict]:
    """The stages of dvc.yaml; those of a foreach as what it repeats."""
    return {name: stage.get("do", stage) for name, stage in dvc_yaml()["stages"].items()}


def script(stage: dict) -> Path:
    """The script a stage runs."""
    words = stage["cmd"].split()
    return ROOT.joinpath(*words[words.index("-m") + 1].split(".")).with_suffix(".py")


def all_rows() -> dict[str, frozenset]:
    """Of each table all rows."""
    found = {}
    for table in TABLES:
        tree = ast.parse(module_file(table).read_text())
        (names,) = [
            node.value.keys for node in tree.body if isinstance(getattr(node, "value", None), ast.Dict)
        ]
        found[table] = frozenset(name.value for name in names)
    return found


@pytest.mark.parametrize("name", [name for name in stages() if name != "code"])
def test_a_stage_depends_on_the_digest_of_its_own_script(name):
    stage = stages()[name]
    (dep,) = [dep for dep in stage["deps"] if dep.startswith("data/code/") and "index" not in dep]
    own = dep.removeprefix("data/code/").removesuffix(".json")
    row = "" if "foreach" not in dvc_yaml()["stages"][name] or name == "evaluate" else own.split("/")[1]
    assert own.split("/")[0] == script(stage).stem
    assert row in ("", "${key}", "${item}")
    rows = {"systems": ("train",), "hierarchies": ("train_hierarchy",)}
    table = dvc_yaml()["stages"][name].get("foreach", "${}")[2:-1]
    wanted = {place for place, *_ in stages_of(PARAMS)}
    for value in PARAMS[table] if row else [""]:
        assert own.replace(row, value) in wanted if row else own in wanted
    assert name in rows.get(table, (name,))


@pytest.mark.parametrize("name", sorted({script(stage).stem for stage in stages().values()} - {"code"}))
def test_a_digest_is_of_what_the_script_imports(name):
    """With all rows of the tables: exactly the files that importing executes, and those they read."""
    found = set(code.code_digests(ROOT, f"stages.{name}", all_rows()))
    assert {path for path in found if path.endswith(".py")} == imported_files(ROOT / "stages" / f"{name}.py")
    templates = {path for path in found if not path.endswith(".py")}
    assert templates == ({"ust/reports/page.html.jinja"} if name == "page" else set())


def digests(root: Path) -> dict[str, dict]:
    """Of each stage its digests, in a copy of the project."""
    return {place: code.code_digests(root, f"stages.{name}", rows) for place, name, rows in stages_of(PARAMS)}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    for name in ("stages", "ust"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def changed(copy, path, edit, before=None):
    """The stages whose digests change when a file is edited."""
    before, text = before or digests(copy), path.read_text("utf-8")
    path.write_text(edit(text), "utf-8")
    after = digests(copy)
    path.write_text(text, "utf-8")
    return {place for place in before if before[place] != after[place]}


MODULES = sorted(
    p.relative_to(ROOT).as_posix() for part in ("stages", "ust") for p in (ROOT / part).rglob("*.py")
)


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_an_edited_module_changes_what_rests_on_it_and_nothing_else(copy, first):
    """Each module in turn, every third in the normal suite and the rest in `make test-slow`."""
    before = digests(copy)
    for module in MODULES[first::3]:
        found = changed(copy, copy / module, lambda text: text + "\n_more = 1\n", before)
        assert found == {place for place, files in before.items() if module in files}, module


def test_who_rests_on_what(copy):
    """By hand, what should and what should not run again."""
    rests = digests(copy)

    def on(module):
        return {place.split("/")[0] for place, files in rests.items() if module in files}

    assert on("ust/evaluation/bootstrap.py") == {"evaluate", "label_quality"}
    assert on("ust/reports/media.py") == {"page"}
    assert on("ust/reports/page.html.jinja") == {"page"}
    assert on("ust/training/schedules.py") == {"train"}
    assert on("ust/util/fast_layers.py") == {"train", "predict", "weights", "extract"}
    assert on("ust/datasets/synthetic/sounds.py") == {"download"}
    assert on("ust/models/frames.py") == {"train", "predict"}
    frames = {place for place, files in rests.items() if "ust/models/frames.py" in files}
    assert frames == {
        f"{stage}/baseline_{level}" for stage in ("train", "predict") for level in ("fine", "coarse")
    }
    assert {place for place, files in rests.items() if "ust/features/logmel.py" in files} == {
        "weights/logmel", "extract/logmel", "page"
    }  # fmt: skip
    assert {place for place, files in rests.items() if "ust/annotations/rules/anyone.py" in files} == {
        "aggregate_labels/any", "label_quality"
    }  # fmt: skip
    assert not on("ust/datasets/sonyc.py")  # the city is the source


@pytest.mark.parametrize("table", TABLES)
def test_another_row_changes_nothing_for_those_that_do_not_use_it(copy, table):
    path = copy.joinpath(*table.split(".")).with_suffix(".py")

    def add(text):
        name = re.search(r"^(\w+): dict", text, re.MULTILINE)[1]
        text = text.replace("\nfrom ", "\nfrom ust.util import errors as another\nfrom ", 1)
        end = text.index("\n}", text.index(f"{name}: dict"))
        return text[:end] + '\n    "another": another.ROW,' + text[end:]

    assert changed(copy, path, add) == set()


def test_comments_and_docstrings_change_nothing(copy):
    for name in ("ust/evaluation/bootstrap.py", "stages/train.py", "ust/models/cnn.py"):
        found = changed(copy, copy / name, lambda text: "# Why.\n" + text.replace('"""', '"""Or: ', 1))
        assert found == set()


def test_dvc_runs_again_what_rests_on_an_edited_module(project):
    """A comment: the digests are taken and nothing else runs; a statement: what rests on it."""
    from project import ran

    path = project.path / "ust" / "evaluation" / "curves.py"
    text = path.read_text("utf-8")
    path.write_text("# Why.\n" + text, "utf-8")
    assert ran(project.dvc("repro")) == {"code"}
    path.write_text(text + "\n_more = 1\n", "utf-8")
    assert "modified:           ust" in project.dvc("status")
    found = ran(project.dvc("repro"))
    evaluations = {f"evaluate@{name}" for name in PARAMS["checkpoints"]}
    assert found == {"code", "label_quality"} | evaluations
    path.write_text(text, "utf-8")
    project.run("git", "checkout", "-q", ".")
    project.dvc("checkout")


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("evaluate", "data/predictions/cnn.csv", "data/raw/annotations.csv",
          "data/raw/dcase-ust-taxonomy.yaml", "{tmp}/m.json"), "evaluate"),
        (("predict", "cnn", "models", "data/features", "data/raw/annotations.csv",
          "data/raw/dcase-ust-taxonomy.yaml", "{tmp}/p.csv"), "predict/cnn"),
        (("inputs", "data/code/index.json", "data/features", "{tmp}/inputs"), "inputs"),
        (("aggregate_labels", "any", "data/raw/annotations.csv", "data/raw/dcase-ust-taxonomy.yaml",
          "{tmp}/l.csv"), "aggregate_labels/any"),
        (("weights", "logmel", "{tmp}/w"), "weights/logmel"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_runs_is_what_is_declared(project, tmp_path, words, place):
    """All modules of the project that a stage has imported at its end stand in its file of digests."""
    program = (
        "import runpy, sys, pathlib\n"
        "try: runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "root = pathlib.Path.cwd()\n"
        "files = [getattr(m, '__file__', None) for m in list(sys.modules.values())]\n"
        "print('\\n'.join(pathlib.Path(f).relative_to(root).as_posix() for f in files if f\n"
        "                and pathlib.Path(f).parts[: len(root.parts) + 1] in\n"
        "                ((*root.parts, 'ust'), (*root.parts, 'stages'))))\n"
    )
    name, *rest = (word.format(tmp=tmp_path) for word in words)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = {[f'stages.{name}', *rest]!r}\n{program}"],
        cwd=project.path, env=project.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    used = {line for line in done.stdout.splitlines() if line.endswith(".py")}
    declared = set(json.loads((project.path / f"data/code/{place}.json").read_text()))
    tables = {module_file(table) for table in TABLES}
    of_rows = {imported for table in tables if table.relative_to(ROOT).as_posix() in declared
               for row in direct_imports(table) for imported in imported_files(row)}  # fmt: skip
    assert used - declared <= of_rows
    assert len(used & declared) > 8


@pytest.mark.parametrize(
    ("file", "changes"), [("seeding.py", True), ("errors.py", False)], ids=["generators", "errors"]
)
def test_other_random_streams_make_another_digest(copy, monkeypatch, file, changes):
    """What resumes a training, and what finds finished clips, goes by the code with its generators."""
    monkeypatch.setattr(code_of_values, "ROOT", copy)
    before = {
        name: code_of_values.code_digest(name, {}) for name in ("stages.train", "ust.audio.augmentation")
    }
    path = copy / "ust" / "util" / file
    text = path.read_text("utf-8")
    path.write_text(text + "\n_other = 1\n", "utf-8")
    after = {name: code_of_values.code_digest(name, {}) for name in before}
    path.write_text(text, "utf-8")
    assert [before[name] != after[name] for name in before] == [changes, changes]


@pytest.mark.parametrize("name", stages())
def test_declared_params_are_what_the_script_reads(name):
    """The sections it asks for, by `read_sections`, by a table of rows, or by name."""
    stage = stages()[name]
    source = script(stage).read_text("utf-8")
    if "ust.cli.evaluate" in source:
        source = "read_sections(args.params, evaluate=Evaluate); read_coarse_mode(args.params)"
    read = set()
    for node in ast.walk(ast.parse(source)):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called == "read_sections":
            read |= {word.arg for word in node.keywords if word.arg}
        elif called == "read_system":
            table = "hierarchies" if name == "train_hierarchy" else "systems"
            read |= {"model", "${item.recipe}", table + ".${key}"}
        elif called == "read_label_quality":
            read |= {"label_quality"}
        elif called == "read_coarse_mode":
            read |= {"data.coarse"}
        elif called == "scored_splits":
            read |= {"predict.split", "evaluate.split"}
        elif called == "read_rule":
            read |= {"labels.${key}"}
        elif called == "read_feature":
            read |= {"${item}"}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "kinds":
            read |= {key.value for key in node.value.keys}
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in (
            "params",
            "read_yaml(args.params)",
        ):
            read |= {ast.literal_eval(node.slice)}
    read = {"checkpoints.${key}" if each == "checkpoints" and name == "predict" else each for each in read}
    if "compute" in read:  # of which each script declares what it takes
        taken = {
            node.attr
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "compute"
        }
        read = read - {"compute"} | {f"compute.{key}" for key in taken}
    if name == "code":
        assert "params.yaml" in stage["deps"]
        return
    # DVC itself puts this one into the command line.
    assert set(stage.get("params", [])) - {"submission"} == read


def test_every_system_is_predicted_and_the_submission_is_a_checkpoint():
    rows = PARAMS["systems"].keys() | PARAMS["hierarchies"].keys()
    assert {row["model"].split("/")[0] for row in PARAMS["checkpoints"].values()} == rows
    assert PARAMS["submission"] in PARAMS["checkpoints"]
    text = (ROOT / "dvc.yaml").read_text()
    assert not [name for name in rows | PARAMS["checkpoints"].keys() if re.search(rf"\b{name}\b", text)]


def test_every_script_is_a_stage():
    scripts = {path for path in (ROOT / "stages").glob("*.py") if path.name != "__init__.py"}
    tools = {ROOT / "stages" / f"{name}.py" for name in TOOLS}
    assert scripts == {script(stage) for stage in stages().values()} | tools
