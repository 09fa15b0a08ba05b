"""The dependencies that dvc.yaml declares are those that the stages use: source, data and parameters."""

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT
from imports import direct_imports
from project import change_params, ran
from ruamel.yaml import YAML

# Scripts beside the stages that no pipeline runs.
TOOLS = {"compare", "experiments", "preset", "export", "leaderboard", "tag", "tag_archive"}
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))

# Source that no stage declares: no result depends on the first two groups; parameters are named as such;
# and of the rows of a registry the modules are.
COMMAND_LINE = {"ust/cli/*"}
FILES = {f"ust/util/{name}.py" for name in ("errors", "progress", "files", "folders", "documents", "tables",
         "names", "tensors", "digests", "engines")} | {"ust/audio/suffixes.py"}  # fmt: skip
PARAMETERS = {"ust/util/config.py", "ust/evaluation/config.py"}
REGISTRIES = {"ust/*/registry.py", "ust/annotations/rules/registry.py"}
UNDECLARED = COMMAND_LINE | FILES | PARAMETERS | REGISTRIES | {"*/__init__.py"}
DECLARED = {"ust/cli/evaluate.py"}  # the stage evaluate, and `ust evaluate`


def is_undeclared(path: Path) -> bool:
    """Return whether no stage has to declare a file."""
    relative = path.relative_to(ROOT)
    return relative.as_posix() not in DECLARED and any(relative.match(pattern) for pattern in UNDECLARED)


def imported_files(paths: set[Path]) -> set[Path]:
    """Return files and all files that importing them executes, without undeclared ones."""
    found, todo = set(), set(paths)
    while todo:
        file = todo.pop()
        found.add(file)
        todo |= {other for other in direct_imports(file) - found if not is_undeclared(other)}
    return found


class Stage(NamedTuple):
    """A stage in DVC's graph, with paths relative to the project."""

    command: str
    dependencies: list[str]
    outputs: list[str]
    parameters: dict[str, Any]


def resolve(folder: Path, **changes) -> dict[str, Stage]:
    """Return the stages in DVC's graph by name, with some parameters changed."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "dvc.yaml", folder)
    change_params(ROOT / "params.yaml", folder / "params.yaml", changes)
    Repo.init(folder, no_scm=True)

    def paths(files):
        return [Path(file.fs_path).relative_to(folder).as_posix() for file in files]

    stages = {}
    for stage in Repo(folder).index.stages:
        params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
        files = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
        values = {name: value for dep in params for name, value in dep.read_params().items()}
        stages[stage.name] = Stage(stage.cmd, paths(files), paths(stage.outs), values)
    return stages


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The stages of the committed params.yaml."""
    return resolve(tmp_path_factory.mktemp("graph"))


@pytest.fixture(scope="module")
def all_rows(tmp_path_factory):
    """The stages with rows for all label rules, features, architectures and trainers."""
    from ust.annotations.rules.registry import RULES
    from ust.features.registry import FEATURES
    from ust.models.registry import ARCHITECTURES
    from ust.training.registry import TRAINERS

    labels = {
        f"labels.{name}_": {"rule": name} for name, rule in RULES.items() if not rule.needs_model_outputs
    }
    features = {
        f"{'embeddings' if feature.network else 'spectrograms'}.{kind}_": {
            "kind": kind,
            "network": feature.network,
        }
        for kind, feature in FEATURES.items()
    }
    row = {"features": ["mn_logmel_"], "labels": "majority"}
    known = {"train_baseline": {"frames"}, "train_head": {"head", "attention", "audioset_head"}}
    known |= {"train_finetune": {"mobilenet"}, "untrained": {"audioset"}}
    flat = ARCHITECTURES.keys() - set().union(*known.values())
    trained = {
        f"{TRAINERS[trainer].row.table}.{trainer}_{architecture}": row
        | {"trainer": trainer, "architecture": architecture, "network": "efficientat"}
        for trainer in TRAINERS
        for architecture in known.get(trainer, flat)
        if "hierarchical" not in trainer
    }
    tree = row | {"trainer": "train_hierarchical_code", "architecture": "cnn", "flat": "cnn/coarse"}
    other = {
        "relabel.again": {"rule": "relabel", "model_outputs": "data/features/mn_.h5"},
        "hierarchies.code": tree,
        "ensembles.both": {"first": "cnn", "second": "cnn_vggish", "labels": "majority"},
    }
    return resolve(tmp_path_factory.mktemp("rows"), **labels, **features, **trained, **other)


def sources(dependencies: list[str]) -> set[Path]:
    """Return the project's files among dependencies, including those in folders."""
    found = set()
    for path in (ROOT / name for name in dependencies if name.split("/")[0] in ("ust", "stages")):
        assert path.exists(), path
        found |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return found


def script(command: str) -> Path:
    """Return the script that a command runs."""
    words = command.split()
    return ROOT.joinpath(*words[words.index("-m") + 1].split(".")).with_suffix(".py")


@pytest.mark.parametrize("rows", ["graph", "all_rows"])
def test_stage_declares_the_source_it_imports(request, rows):
    """Imports are followed from the script and from the modules of its row."""
    for name, stage in request.getfixturevalue(rows).items():
        declared = sources(stage.dependencies)
        python = {path for path in declared if path.suffix == ".py"}
        used = imported_files({script(stage.command)} | python)
        missing = {path.relative_to(ROOT).as_posix() for path in used - declared}
        assert not missing, f"{name}: dvc.yaml should name {', '.join(sorted(missing))}"


def test_stage_declares_no_unused_source(all_rows):
    used, declared = {}, {}
    for name, (command, dependencies, *_) in all_rows.items():
        stage = name.split("@")[0]
        files = [dep for dep in dependencies if dep.endswith(".py")]
        # Files named after a row's keys are used by name, and so are the modules of sources and rules.
        rows = {
            ROOT / dep
            for dep in files
            if re.search(r"training/(train|untrained)|rules/|features/[^/]+\.py", dep)
        }
        rows |= {ROOT / dep for dep in files if dep.startswith("ust/models/") and stage.startswith("train")}
        rows |= sources([dep for dep in dependencies if not Path(dep).suffix])
        used[stage] = used.get(stage, set()) | imported_files({script(command)} | rows)
        declared[stage] = declared.get(stage, set()) | {ROOT / dep for dep in files if dep.startswith("ust/")}
    for stage, files in declared.items():
        assert not files - used[stage], stage


def test_feature_names_its_sources():
    """A change of these files, seen by their digest, makes extraction compute the values again."""
    from ust.features.extraction import SOURCES
    from ust.features.registry import FEATURES

    for kind, feature in FEATURES.items():
        modules = {function.__module__ for function in (feature.process_clip, feature.load) if function}
        used = imported_files({ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in modules})
        missing = used - sources([*SOURCES, *feature.sources])
        assert not missing, f"{kind}: its sources should include {missing}"
    assert not any("mn_logmel" in source for source in (*SOURCES, *FEATURES["logmel"].sources))


def test_command_names_its_data_dependencies(graph):
    for name, (command, dependencies, *_) in graph.items():
        words = set(command.split())
        for dep in dependencies:
            if dep.split("/")[0] not in ("ust", "stages") and dep != PARAMS["data"]["path"]:
                inside = {dep, *(parent.as_posix() for parent in Path(dep).parents)}
                files = {word for word in words if word.startswith(f"{dep}/")}
                assert inside & words or files, f"{name}: its command does not name {dep}"


def rests_on(graph, module: str) -> set[str]:
    """Return the stages that an edited file makes stale, abbreviated to the name of a complete foreach."""
    stale = {
        name
        for name, stage in graph.items()
        if {module, *map(str, Path(module).parents)} & set(stage.dependencies)
    }
    families = {}
    for name in graph:
        families.setdefault(name.split("@")[0], set()).add(name)
    whole = {family for family, names in families.items() if names <= stale}
    return whole | {name for name in stale if name.split("@")[0] not in whole}


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("ust/util/progress.py", ()),
        ("ust/models/another.py", ()),
        ("ust/training/train_another.py", ()),
        ("ust/annotations/rules/another.py", ("label_quality",)),
        ("ust/models/registry.py", ()),
        ("ust/evaluation/bootstrap.py", ("evaluate", "label_quality")),
        ("ust/evaluation/submission.py", ("submit",)),
        ("ust/reports/media.py", ("page",)),
        ("ust/reports/page.html.jinja", ("page",)),
        ("ust/reports/tables.py", ("table", "page")),
        ("ust/datasets/synthetic/sounds.py", ("download",)),
        ("ust/datasets/synthetic/context.py", ("download",)),
        ("ust/features/context.py", ("train", "train_hierarchy", "predict")),
        ("ust/models/context.py", ("train", "train_hierarchy", "predict")),
        ("ust/annotations/rules/any.py", ("aggregate_labels@any", "label_quality")),
        ("ust/features/logmel.py", ("extract", "page")),
        ("ust/features/vggish/network.py", ("weights@vggish", "embed")),
        ("ust/models/cnn.py", ("train@cnn",)),
        ("ust/models/cnn_vggish.py", ("train@cnn_vggish", "train@cnn_vggish_29", "train@cnn_vggish_8",
                                      "train_hierarchy")),
        ("ust/models/frames.py", ("train@baseline_fine", "train@baseline_coarse")),
        ("ust/training/train_baseline.py", ("train@baseline_fine", "train@baseline_coarse")),
        ("ust/training/train.py", ("train", "train_hierarchy")),
        ("ust/training/train_hierarchical.py", ("train_hierarchy",)),
        ("ust/training/schedules.py", ("train", "train_hierarchy")),
        ("ust/models/systems.py", ("train", "train_hierarchy", "predict")),
        ("ust/util/accelerate.py", ("weights", "embed", "train", "train_hierarchy", "predict")),
    ],
)  # fmt: skip
def test_edited_module_makes_its_stages_stale(graph, module, stages):
    assert rests_on(graph, module) == set(stages)


def test_settings_of_time_and_place_make_only_their_system_stale(tmp_path):
    """And the table and the page of all systems."""
    first, second, without = (
        resolve(tmp_path / str(number), **{"systems.cnn.context": context})
        for number, context in enumerate([{"dropout": 0.5}, {"dropout": 0.3}, None])
    )
    for other in (second, without):
        assert {name for name in first if first[name].parameters != other[name].parameters} == {
            "train@cnn",
            "table",
            "page",
        }


def data_of(graph, target: str) -> set[str]:
    """Return the stages that reproducing a target runs."""
    needed, todo = set(), {target}
    while todo:
        name = todo.pop()
        needed.add(name)
        for dep in graph[name].dependencies:
            inside = {dep, *map(str, Path(dep).parents)}  # an output may be a folder that holds the file
            todo |= {other for other, stage in graph.items() if inside & set(stage.outputs)} - needed
    return needed


def test_system_depends_only_on_its_own_features(graph):
    """A CNN needs no VGGish, a baseline no log-mels, and label aggregation no features."""
    cnn, baseline = data_of(graph, "evaluate@cnn"), data_of(graph, "evaluate@baseline_fine")
    assert {"extract@logmel", "train@cnn"} <= cnn
    assert not cnn & {"embed@vggish", "weights@vggish", "aggregate_labels@any"}
    assert {"embed@vggish", "train@baseline_fine"} <= baseline
    assert "extract@logmel" not in baseline
    assert data_of(graph, "aggregate_labels@majority") == {"aggregate_labels@majority", "download"}


def dvc_yaml() -> dict:
    """Return the content of dvc.yaml."""
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))


def stages() -> dict[str, dict]:
    """Return the stages of dvc.yaml; of a foreach its body."""
    return {name: stage.get("do", stage) for name, stage in dvc_yaml()["stages"].items()}


@pytest.mark.parametrize("name", stages())
def test_declared_params_are_those_the_script_reads(name):
    """Found by `read_sections`, by the registry of rows, or by name."""
    stage = stages()[name]
    source = script(stage["cmd"]).read_text("utf-8")
    if "ust.cli.evaluate" in source:
        source = "read_sections(args.params, evaluate=Evaluate); read_coarse_mode(args.params)"
    table = re.search(r"\w+", str(dvc_yaml()["stages"][name].get("foreach", "-")))
    table = table and table[0]
    read = set()
    for node in ast.walk(ast.parse(source)):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called == "read_sections":
            read |= {word.arg for word in node.keywords if word.arg}
        elif called == "read_system_config":
            read |= {"model.${item.architecture}", "${item.trainer}", table + ".${key}"}
            # The settings of a hierarchy complete those of its section.
            read |= {"train"} if table == "hierarchies" else set()
        elif called == "read_label_quality":
            read |= {"label_quality"}
        elif called == "read_coarse_mode":
            read |= {"data.coarse"}
        elif called == "read_scored_splits":
            read |= {"predict.split", "evaluate.split"}
        elif called == "read_rule":
            read |= {table + ".${key}"}
        elif called == "read_feature":
            read |= {f"{table}.${{key}}"}
        elif called == "read_network":
            read |= {"${item}"}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "kinds":
            read |= {key.value for key in node.value.keys}
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "params":
            read |= {ast.literal_eval(node.slice)}
    read = {"checkpoints.${key}" if each == "checkpoints" and name == "predict" else each for each in read}
    if "compute" in read:  # of which each script declares what it takes
        taken = {
            node.attr
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "compute"
        }
        read = read - {"compute"} | {f"compute.{key}" for key in taken}
    if "network" not in stage["cmd"]:  # only embeddings depend on these
        read -= {"compute.threads", "compute.device"} if name == "extract" else set()
    # DVC itself inserts `submission` into the command line.
    assert set(stage.get("params", [])) - {"submission"} == read


def test_every_system_is_predicted_and_the_submission_is_a_checkpoint():
    rows = PARAMS["systems"].keys() | PARAMS["hierarchies"].keys() | PARAMS["pretrained"].keys()
    assert {row["model"].split("/")[0] for row in PARAMS["checkpoints"].values()} == rows
    assert PARAMS["submission"] in PARAMS["checkpoints"]


def test_every_script_is_a_stage():
    scripts = {path for path in (ROOT / "stages").glob("*.py") if path.name != "__init__.py"}
    tools = {ROOT / "stages" / f"{name}.py" for name in TOOLS}
    assert scripts == {script(stage["cmd"]) for stage in stages().values()} | tools


def test_model_row_names_features_and_architecture(project):
    """Digests in the model make predictions stale when features or architecture change."""
    from ust.features.store import open_features
    from ust.util.digests import source_digest

    description = json.loads((project.path / "models/cnn/coarse/model.json").read_text())["metadata"]
    with open_features(project.path / "data/features/logmel.h5", "logmel") as file:
        assert description["digests"]["features"] == {"logmel": file.digest()}
    architecture = source_digest("ust/models/cnn.py", "ust/models/layers.py")
    assert description["digests"]["architecture"] == architecture


def test_dvc_status_lists_stale_stages_after_an_edit(project):
    path = project.path / "ust" / "evaluation" / "curves.py"
    text = path.read_text("utf-8")
    path.write_text(text + "\n_more = 1\n", "utf-8")
    wanted = {"label_quality", *(f"evaluate@{name}" for name in PARAMS["checkpoints"])}
    stale = {line[:-1] for line in project.dvc("status").splitlines() if re.match(r"\S+:$", line)}
    assert stale == wanted
    assert ran(project.dvc("repro", "--dry")) == wanted
    path.write_text(text, "utf-8")


@pytest.mark.parametrize("file", ["ust/util/seeding.py", "ust/training/trainer.py"])
def test_training_does_not_resume_after_source_changes(tmp_path, monkeypatch, file):
    from ust.util import digests

    shutil.copytree(ROOT / "ust", tmp_path / "ust", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "ROOT", tmp_path)
    before = digests.source_digest.__wrapped__()
    path = tmp_path / file
    path.write_text(path.read_text("utf-8") + "\n_other = 1\n", "utf-8")
    assert digests.source_digest.__wrapped__() != before
