"""Packing trained systems with their pretrained networks into self-contained folders."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ust.models.checkpoints import read_description
from ust.util.digests import digest, file_digest
from ust.util.documents import read_json, write_json
from ust.util.errors import UserError
from ust.util.names import MODEL_FILE

PACKAGE = "ust.json"
FORMAT = 2
SYSTEM, NETWORKS = "system", "pretrained"


class Location(NamedTuple):
    """Folder of a system, folder of its pretrained networks, and post-processing options."""

    system: Path
    networks: Path
    inference_options: dict[str, Any]


def model_id(folder: Path, inference_options: Mapping[str, object]) -> str:
    """Return an identifier for the predictions of a system: 16 hexadecimal digits.

    It changes with the files of the system, among them the checksums of its pretrained networks, and with the
    inference options.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [f"{path.relative_to(folder).as_posix()} {file_digest(path)}" for path in files]
    return digest(*parts, *(f"{key}={inference_options[key]}" for key in sorted(inference_options)))[:16]


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

    Examples
    --------
    >>> system = Path("models/cnn_vggish/coarse")  # doctest: +SKIP
    >>> pack(Path("packed"), "cnn_vggish", system, Path("models/pretrained"), {})  # doctest: +SKIP
    """
    features = read_description(system).get("metadata", {}).get("features")
    if not isinstance(features, dict) or not features:
        raise UserError(f"{system / MODEL_FILE}: does not list the system's features; train it again")
    # Weights and descriptions only: out-of-fold predictions and manifests are not needed for inference.
    copies = {
        path: out / SYSTEM / path.relative_to(system)
        for path in system.rglob("*")
        if path.suffix in (".json", ".safetensors") and not path.name.startswith(".")
    }
    for network in {attributes["network"] for attributes in features.values() if "network" in attributes}:
        files = [path for path in (networks / network).rglob("*") if path.is_file()]
        copies |= {path: out / NETWORKS / path.relative_to(networks) for path in files}
    for source, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    digests = {path.relative_to(out).as_posix(): file_digest(path) for path in sorted(copies.values())}
    write_json(
        out / PACKAGE, {"format": FORMAT, "name": name, "reading": dict(inference_options), "sha256": digests}
    )


def is_packed(folder: Path) -> bool:
    """Return whether `pack` wrote a folder."""
    return (folder / PACKAGE).is_file()


def unpack(folder: Path) -> Location:
    """Check every file of a packed system and return where its parts are.

    Parameters
    ----------
    folder : Path
        A folder that `pack` wrote.

    Returns
    -------
    Location
        Folder of the system, folder of its pretrained networks, and post-processing options of
        `ust.models.checkpoints.load_system`.

    Raises
    ------
    UserError
        If `pack` did not write the folder, or a file is missing or was changed.

    Examples
    --------
    >>> unpack(Path("packed")).system  # doctest: +SKIP
    PosixPath('packed/system')
    """
    package = read_json(folder / PACKAGE, made_by="export --format folder")
    files, options = package.get("sha256"), package.get("reading")
    if package.get("format") != FORMAT or not isinstance(files, dict) or not isinstance(options, dict):
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
    return Location(folder / SYSTEM, folder / NETWORKS, options)
