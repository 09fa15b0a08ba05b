"""Trained systems by the names that dvc.yaml gives them."""

from collections.abc import Mapping
from pathlib import Path

from ust.errors import UserError
from ust.yamls import read_yaml


def checkpoints(pipeline: Path) -> dict[str, str]:
    """The names under which dvc.yaml predicts, and the folder in models/ of each."""
    for variables in read_yaml(pipeline).get("vars", []):
        if "checkpoints" in variables:
            return variables["checkpoints"]
    return {}


def model_folder(models: Path, name: str, names: Mapping[str, str]) -> Path:
    """The folder of a system, by a name that dvc.yaml gives it or its place below `models`."""
    folder = models / names.get(name, name)
    if (folder / "model.json").is_file():
        return folder
    there = sorted(str(p.parent.relative_to(models)) for p in models.glob("*/model.json"))
    there += sorted(str(p.parent.relative_to(models)) for p in models.glob("*/*/model.json"))
    have = "there are " + ", ".join(there) if there else "no system is trained yet: run dvc repro"
    raise UserError(f"{models}: no trained system {name!r}; {have}")
