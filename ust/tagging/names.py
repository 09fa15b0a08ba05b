"""Trained systems by name."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from ust.files.digests import digest, file_digest
from ust.files.errors import UserError


def model_folder(models: Path, name: str, names: Mapping[str, str]) -> Path:
    """The folder of a system, by a name of `names` or its place below `models`."""
    if not models.is_dir():
        raise UserError(f"{models}: no such folder; run this in the project's folder, or name --models")
    folder = models / names.get(name, name)
    if (folder / "model.json").is_file():
        return folder
    trained = {
        str(path.parent.relative_to(models))
        for deep in ("*", "*/*")
        for path in models.glob(f"{deep}/model.json")
    }
    there = [known for known, place in names.items() if place in trained]
    there += sorted(place for place in trained - {*names.values()} if not place.startswith("."))
    have = "there are " + ", ".join(there) if there else "no system is trained yet: run dvc repro"
    near = difflib.get_close_matches(name, there, n=1)
    have = f"did you mean {near[0]}? {have}" if near else have
    raise UserError(f"{models}: no trained system {name!r}; {have}")


def model_id(folder: Path, reading: Mapping[str, object]) -> str:
    """Stands for a trained system, its features' weights and how its answers are read: 16 hex digits."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [f"{path.relative_to(folder).as_posix()} {file_digest(path)}" for path in files]
    return digest(*parts, *(f"{key}={reading[key]}" for key in sorted(reading)))[:16]
