"""Finding trained systems by name, and packing them into self-contained folders."""

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
    """Return the folder of a trained system."""
    if not models.is_dir():
        raise UserError(f"{models}: no such folder; run this in the project's folder, or name --models")
    folder = models / names.get(name, name)
    if (folder / "model.json").is_file():
        return folder
    trained = {
        str(path.parent.relative_to(models))
        for pattern in ("*", "*/*")
        for path in models.glob(f"{pattern}/model.json")
    }
    available = [known for known, path in names.items() if path in trained]
    available += sorted(path for path in trained - {*names.values()} if not path.startswith("."))
    hint = "there are " + ", ".join(available) if available else "no system is trained yet: run dvc repro"
    near = difflib.get_close_matches(name, available, n=1)
    hint = f"did you mean {near[0]}? {hint}" if near else hint
    raise UserError(f"{models}: no trained system {name!r}; {hint}")


def model_id(folder: Path, inference_options: Mapping[str, object]) -> str:
    """Return an identifier for the predictions of a system: 16 hexadecimal digits.

    It changes with the files of the system, among them the checksums of its pretrained networks, and with the
    inference options.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [f"{path.relative_to(folder).as_posix()} {file_digest(path)}" for path in files]
    return digest(*parts, *(f"{key}={inference_options[key]}" for key in sorted(inference_options)))[:16]


PACKAGE = "ust.json"
FORMAT = 2
SYSTEM, NETWORKS = "system", "pretrained"


def pack(out: Path, name: str, system: Path, networks: Path, inference_options: Mapping[str, Any]) -> None:
    """Copy a trained system and its pretrained networks into a folder.

    ``ust.json`` in that folder holds the inference options and the SHA-256 of each file.

    Parameters
    ----------
    out : Path
        An empty folder.
    name : str
        Name of the system.
    system : Path
        Folder of the system or, for a flat network, of one of its checkpoints.
    networks : Path
        Folder of the pretrained networks.
    inference_options : mapping
        Post-processing options of `ust.models.checkpoints.load_system`.

    Raises
    ------
    UserError
        If the system's description does not list its features.
    """
    features = read_description(system).get("about", {}).get("features")
    if not isinstance(features, dict) or not features:
        raise UserError(f"{system / MODEL_FILE}: does not list the system's features; train it again")
    # Weights and descriptions only: out-of-fold predictions and manifests are not needed for inference.
    for path in sorted(system.rglob("*")):
        if path.suffix in (".json", ".safetensors") and not path.name.startswith("."):
            _copy(path, out / SYSTEM / path.relative_to(system))
    for network in sorted(
        {attributes["network"] for attributes in features.values() if "network" in attributes}
    ):
        for path in sorted((networks / network).rglob("*")):
            if path.is_file():
                _copy(path, out / NETWORKS / path.relative_to(networks))
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
    """Return whether `pack` wrote a folder."""
    return (folder / PACKAGE).is_file()


def unpack(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
    """Check every file of a packed system and return where its parts are.

    Parameters
    ----------
    folder : Path
        A folder that `pack` wrote.

    Returns
    -------
    system : Path
        Folder of the system.
    networks : Path
        Folder of its pretrained networks.
    inference_options : dict
        Post-processing options of `ust.models.checkpoints.load_system`.

    Raises
    ------
    UserError
        If `pack` did not write the folder, or a file is missing or was changed.
    """
    package = read_json(folder / PACKAGE, made_by="export --format folder")
    files, inference_options = package.get("sha256"), package.get("reading")
    if (
        package.get("format") != FORMAT
        or not isinstance(files, dict)
        or not isinstance(inference_options, dict)
    ):
        raise UserError(f"{folder / PACKAGE}: not a packed system of the format {FORMAT}")
    for name, expected in files.items():
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts:
            raise UserError(f"{folder / PACKAGE}: names {json.dumps(name)}, which is not in the folder")
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: is missing; copy the folder again")
        if file_digest(path) != expected:
            raise UserError(f"{path}: not what was packed (its SHA-256 differs); copy the folder again")
    return folder / SYSTEM, folder / NETWORKS, inference_options
