"""The package: built, installed, and used from another folder."""

import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pandas as pd
import pytest
from conftest import ROOT

from ust.cli import program
from ust.cli.console import EXTRAS, missing_package

PROGRAM = """
import sys, ust
from pathlib import Path
assert Path(ust.__file__).is_relative_to(sys.argv[1]), ust.__file__
project = Path(sys.argv[2])
(clip, *_) = sorted((project / "data/raw/audio/validate").iterdir())
samples = ust.load_audio(clip)
tagger = ust.Tagger.load(project / "models/cnn_vggish/coarse")
taxonomy = ust.read_taxonomy(project / "data/raw/dcase-ust-taxonomy.yaml")
assert tagger.taxonomy == taxonomy
assert len(ust.read_annotations(project / "data/raw/annotations.csv", taxonomy))
probabilities = tagger.predict(samples, 44_100)
wanted, _ = ust.read_predictions(project / "data/predictions/cnn_vggish_coarse.csv", [
    path.name for path in sorted((project / "data/raw/audio/validate").iterdir())], taxonomy)
assert abs(probabilities - wanted.loc[clip.name]).max() < 2e-4
raw = project / "data" / "raw"
found = ust.evaluate(project / "data/predictions/cnn.csv", raw / "annotations.csv",
                     raw / "dcase-ust-taxonomy.yaml", bootstrap=20)
print(found["coarse"]["micro_auprc"])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, as building leaves files beside the source."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT / "ust", folder / "ust", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder / "dist", folder], check=True)
    (path,) = (folder / "dist").iterdir()
    return path


def test_wheel_contains_only_the_library_and_its_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ust").rglob("*.py")}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ust").rglob("*.jinja")}
    assert len(templates) == 9
    tables = {"ust/annotations/audioset_classes.csv", "ust/annotations/audioset_labels.yaml"}
    assert names == modules | templates | tables


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel and only the packages that it requires."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "site"]
    subprocess.run([*command, wheel], check=True)
    (folder / "elsewhere").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return folder, environment | {"PYTHONPATH": str(folder / "site")}


def test_installed_package_works_from_another_folder(installed, project):
    folder, environment = installed
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, folder / "site", project.path],
        cwd=folder / "elsewhere", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(project.metrics("cnn")["coarse"]["micro_auprc"])


def test_installed_program_tags_from_another_folder(installed, project):
    folder, environment = installed
    audio = project.path / "data" / "raw" / "audio" / "validate"
    words = ["tag", audio, "--models", project.path / "models", "--system", "cnn/coarse", "--format", "csv"]
    done = subprocess.run(
        [sys.executable, folder / "site" / "bin" / "ust", *words, "--out", "tags.csv"],
        cwd=folder / "elsewhere", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(folder / "elsewhere" / "tags.csv", index_col="audio_filename")
    wanted = pd.read_csv(project.path / "data/predictions/cnn.csv", index_col="audio_filename")
    pd.testing.assert_frame_equal(found, wanted, atol=2e-4)


def test_installed_program_tags_without_a_trained_system(installed, wav):
    """The only other file is that of the published weights."""
    import torch

    from ust.features.efficientat.weights import draw_random_weights

    folder, environment = installed
    torch.save(draw_random_weights(1, 0.1), folder / "weights.pt")
    words = ["tag", wav(), "--checkpoint", folder / "weights.pt", "--format", "csv"]
    done = subprocess.run(
        [sys.executable, folder / "site" / "bin" / "ust", *words],
        cwd=folder / "elsewhere", env=environment | {"UST_CACHE": str(folder / "cache")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(io.StringIO(done.stdout), index_col="audio_filename")
    assert table.shape == (1, 37)
    assert table.to_numpy().min() > 0


def test_every_import_is_a_declared_dependency():
    """TensorFlow and ONNX are extras, imported only where needed."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {name.split(">")[0] for name in declared["dependencies"]}
    extras = {
        name.split(">")[0]
        for extra in ("archive", "cluster", "crowd", "microphone", "onnx", "own", "tensorflow")
        for name in declared["optional-dependencies"][extra]
    }
    distributions = {
        "PIL": "pillow",
        "dask_jobqueue": "dask-jobqueue",
        "crowdkit": "crowd-kit",
        "ruamel": "ruamel.yaml",
        "sklearn": "scikit-learn",
    }
    used = {}
    for path in (ROOT / "ust").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [node.module] if isinstance(node, ast.ImportFrom) else []
            found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in (name.split(".")[0] for name in found):
                if name not in sys.stdlib_module_names and name != "ust":
                    used.setdefault(distributions.get(name, name), set()).add(
                        path.relative_to(ROOT).as_posix()
                    )
    assert used.keys() <= names | extras
    assert names <= used.keys()
    assert used["crowd-kit"] == {"ust/annotations/rules/crowd_kit.py"}
    assert used["tensorflow"] == {"ust/features/vggish/weights.py"}
    assert used["onnx"] == {"ust/tagging/export.py"}
    assert used["onnxruntime"] == {*used["onnx"], "ust/features/onnx/feature.py"}


@pytest.mark.slow
def test_package_installs_into_an_empty_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel, "torch==2.13.0"], check=True)
    done = subprocess.run(
        [python, "-c", "import ust; print(ust.Tagger, ust.evaluate)"], cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    size = sum(path.stat().st_size for path in (tmp_path / "venv").rglob("*") if path.is_file())
    assert size < 1.6e9


def test_missing_package_names_its_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    packages = {"crowdkit": "crowd-kit", "dask_jobqueue": "dask-jobqueue"}
    for module, extra in EXTRAS.items():
        names = {re.split(r"[>=<\\[]", each)[0] for each in project["optional-dependencies"][extra]}
        assert packages.get(module, module) in names
        assert missing_package(f"{module}.sub").endswith(f'pip install "urban-sound-tagging[{extra}]"')
    assert "make .venv" in missing_package("numpy")


def test_program_prints_its_version(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ust", "--version"])
    program.dispatch()
    assert capsys.readouterr().out == "ust 1.0.0\n"
