"""Trained systems by name."""

import difflib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ust.models.checkpoints import MODEL_FILE, read_description
from ust.util.digests import digest, file_digest
from ust.util.documents import read_json, write_json
from ust.util.errors import UserError


def find_model(models: Path, name: str, names: Mapping[str, str]) -> Path:
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


def model_id(folder: Path, inference_options: Mapping[str, object]) -> str:
    """Stands for a trained system, its features' weights and how its answers are read: 16 hex digits."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [f"{path.relative_to(folder).as_posix()} {file_digest(path)}" for path in files]
    return digest(*parts, *(f"{key}={inference_options[key]}" for key in sorted(inference_options)))[:16]


PACKAGE = "ust.json"
FORMAT = 1
SYSTEM, FEATURES = "system", "features"


def pack(out: Path, name: str, system: Path, features: Path, inference_options: Mapping[str, Any]) -> None:
    """Put a trained system and its features' weights into an empty folder.

    Parameters
    ----------
    out : Path
    name : str
    system : Path
        Folder of the stage train; of a flat system that of one checkpoint.
    features : Path
        Folder of the stages weights.
    inference_options : mapping
        How its answers are read: the options of `ust.models.checkpoints.load_system`.

    Raises
    ------
    UserError
        If the system does not say what its features are.
    """
    inputs = read_description(system).get("about", {}).get("inputs")
    if not isinstance(inputs, dict) or not inputs:
        raise UserError(f"{system / MODEL_FILE}: does not say what its features are; train it again")
    # What systems are made of; out-of-fold predictions and manifests stay behind.
    for path in sorted(system.rglob("*")):
        if path.suffix in (".json", ".safetensors") and not path.name.startswith("."):
            _copy(path, out / SYSTEM / path.relative_to(system))
    for feature in sorted(set(inputs.values())):
        for path in sorted((features / feature).rglob("*")):
            if path.is_file():
                _copy(path, out / FEATURES / feature / path.relative_to(features / feature))
    files = {
        path.relative_to(out).as_posix(): file_digest(path)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    write_json(
        out / PACKAGE, {"format": FORMAT, "name": name, "reading": dict(inference_options), "sha256": files}
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def is_packed(folder: Path) -> bool:
    """Whether a folder is what `pack` writes."""
    return (folder / PACKAGE).is_file()


def unpack(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
    """The folders of a packed system and its features, and how its answers are read; each file is checked.

    Raises
    ------
    UserError
        If it is no such folder, or a file is missing or not what was packed.
    """
    package = read_json(folder / PACKAGE, made_by="export --format folder")
    files, inference_options = package.get("sha256"), package.get("reading")
    if (
        package.get("format") != FORMAT
        or not isinstance(files, dict)
        or not isinstance(inference_options, dict)
    ):
        raise UserError(f"{folder / PACKAGE}: not a packed system of the format {FORMAT}")
    for name, wanted in files.items():
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts:
            raise UserError(f"{folder / PACKAGE}: names {json.dumps(name)}, which is not in the folder")
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: is missing; copy the folder again")
        if file_digest(path) != wanted:
            raise UserError(f"{path}: not what was packed (its SHA-256 differs); copy the folder again")
    return folder / SYSTEM, folder / FEATURES, inference_options
