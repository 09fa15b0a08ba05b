"""The recipes of docs/recipes.md run as written."""

import re
import tarfile

import pandas as pd
import pytest
from conftest import ROOT
from project import ran
from ruamel.yaml import YAML

from stages.preset import merge

PAGE = (ROOT / "docs" / "recipes.md").read_text("utf-8")
TITLES = ("A system", "An architecture", "A feature", "A label rule", "A data source")
LAST = {"table", "page"}


def recipe(title):
    """Return a recipe's new file with its content, its registry row, and its part of params.yaml."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    file = re.search(r"`(ust/\S+\.py)`:\n\n```python\n(.*?)```", section, re.DOTALL)
    row = re.search(r"row\s+in\s+`(ust/\S+/registry\.py)`,\s+`(\"(\w+)\": (\w+)\.\w+)`", section)
    params = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    return file and file.groups(), row and row.groups(), YAML(typ="safe").load(params[1])


def apply(project, title):
    """Follow a recipe; return its part of params.yaml."""
    file, row, more = recipe(title)
    named = {"params.yaml"}
    if file:
        path, text = file
        (project.path / path).write_text(text, "utf-8")
        table = project.path / row[0]
        source = table.read_text("utf-8")
        package = ".".join(path.split("/")[:-1])
        end = source.index("\n}", re.search(r"^\w+: dict", source, re.MULTILINE).start())
        source = source[:end] + f"\n    {row[1]}," + source[end:]
        table.write_text(source.replace("\nfrom ", f"\nfrom {package} import {row[3]}\nfrom ", 1), "utf-8")
        named |= {path, row[0]}
    yaml = YAML()
    params = yaml.load(project.path / "params.yaml")
    merge(params, more)
    yaml.dump(params, project.path / "params.yaml")
    changed = project.run("git", "diff", "--name-only").split()
    changed += project.run("git", "ls-files", "--others", "--exclude-standard").split()
    assert set(changed) == named
    return more


@pytest.fixture
def place(project):
    """The finished project, restored after the test."""
    yield project
    project.run("git", "reset", "-q", "--hard")
    project.run("git", "clean", "-qfd", "ust", "metrics")
    project.dvc("checkout", "-q", "--force")


def test_there_are_five_recipes():
    assert tuple(re.findall(r"^## (.*)$", PAGE, re.MULTILINE)) == TITLES


def test_added_rows_are_trained_scored_and_shown(place):
    """Adds a system, an architecture, a feature and a label rule, then runs the pipeline once."""
    names = ("cnn_any", "bands", "cnn_pcen", "baseline_unanimous")
    for title, name in zip(TITLES[:-1], names, strict=True):
        assert list(apply(place, title)["checkpoints"]) == [name]
        place.run("git", "add", "-A")
    output = place.dvc("repro")
    made = {"extract@pcen", "describe", "aggregate_labels@unanimous", "label_quality"}
    stages = {f"{stage}@{name}" for stage in ("train", "predict", "evaluate") for name in names}
    assert ran(output) == LAST | made | stages
    table = (place.path / "metrics/table.md").read_text()
    plotted = set(pd.read_csv(place.path / "metrics/plots/coarse.csv")["system"])
    page = (place.path / "metrics/page.html").read_text("utf-8")
    for name in names:
        assert 0 <= place.metrics(name)["coarse"]["micro_auprc"] <= 1
        assert name in table
        assert name in plotted
        assert f'<th scope="row">{name}' in page
    assert "up to date" in place.dvc("repro")


def test_added_source_provides_its_data(place, tmp_path):
    city = place.path.parent / "city.tar.gz"
    place.stage("download", tmp_path / "city")
    with tarfile.open(city, "w:gz") as tar:
        tar.add(tmp_path / "city", ".")
    place.environment = place.environment | {"UST_CACHE": str(tmp_path / "cache")}
    apply(place, "A data source")
    output = place.dvc("repro", "describe")
    assert "data/raw: 10 train clips, 6 validate clips" in output
    # The clips are the same, so their outputs are reused.
    assert {"download"} <= ran(output) <= {"download", "augment", "extract@logmel", "embed@vggish"}
