"""Find a system and its pretrained networks: trained, exported, of a project, or published."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from ust.datasets.download import cache_folder
from ust.datasets.source import TAXONOMY
from ust.features.efficientat.weights import RELEASED
from ust.tagging import audioset
from ust.tagging.pretrained import PACKAGE, SYSTEM, Location, is_packed, unpack
from ust.util.errors import UserError
from ust.util.names import MODEL_FILE

PRETRAINED = "pretrained"  # folder of the pretrained networks, beside the systems
PROJECT_MODEL = "model"  # the folder of a project with the tagger that it trained
ONNX_MODEL = "model.onnx"  # the file of an exported system that onnxruntime runs


def locate(path_or_name: str | Path, *, checkpoint: Path | None = None) -> Location:
    """Find a system, checking the SHA-256 of every file of an exported one."""
    path = Path(path_or_name)
    if checkpoint is not None and str(path_or_name) != audioset.NAME:
        raise UserError(
            f"{checkpoint}: a file of weights belongs to the system audioset, not to {path_or_name}; "
            f"efficientat.checkpoint in {audioset.PARAMS} names the file of a project"
        )
    if (path / MODEL_FILE).is_file():
        return Location(path, find_networks(path), {})
    if is_packed(path):
        return unpack(path)
    if is_project(path):
        trained = is_packed(path / PROJECT_MODEL)
        return unpack(path / PROJECT_MODEL if trained else audioset.prepare_project(path))
    if str(path_or_name) == audioset.NAME:
        return unpack(audioset.prepare_audioset(checkpoint=checkpoint))
    if is_packed(cache_folder() / "models" / path):
        return unpack(cache_folder() / "models" / path)
    _refuse_other_exports(path)
    if path.is_dir():
        return Location(path, find_networks(path), {})  # loading it names the files that are missing
    raise UserError(
        f"{path_or_name}: no such file or folder; should be the folder of a trained system, a folder of ust "
        f"export, a project of ust init, or {audioset.NAME}"
    )


def _refuse_other_exports(path: Path) -> None:
    """Refuse a path that exists but is no system that PyTorch can load: an ONNX export, or a file."""
    if (path / ONNX_MODEL).is_file():
        raise UserError(
            f"{path}: is an export as ONNX, which only onnxruntime runs; export the system by --format folder"
        )
    if (path / SYSTEM).is_dir():
        raise UserError(f"{path / PACKAGE}: is missing; copy the exported folder again")
    if path.is_file():
        hint = f"; weights are given by --system {audioset.NAME} --checkpoint {path}"
        raise UserError(
            f"{path}: is a file, should be the folder of a system{hint if path.suffix == '.pt' else ''}"
        )


def is_project(folder: Path) -> bool:
    """Return whether ``ust init`` made a folder."""
    return (folder / TAXONOMY).is_file() and (folder / audioset.PARAMS).is_file()


def find_networks(path: Path) -> Path:
    """Return the folder ``pretrained`` beside a system's folder, or beside a checkpoint's parent folder."""
    for folder in (path.parent, path.parent.parent):
        if (folder / PRETRAINED).is_dir():
            return folder / PRETRAINED
    return path.parent / PRETRAINED


def find_model(models: Path, name: str, names: Mapping[str, str]) -> Path:
    """Return the folder of a trained system; `names` maps the names of checkpoints to their folders."""
    for folder in (models / names.get(name, name), Path(name)):
        if (folder / MODEL_FILE).is_file():
            return folder
    _refuse_other_exports(Path(name))
    trained = {
        str(path.parent.relative_to(models))
        for pattern in ("*", "*/*")
        for path in models.glob(f"{pattern}/{MODEL_FILE}")
    }
    available = [known for known, path in names.items() if path in trained]
    available += sorted(path for path in trained - {*names.values()} if not path.startswith("."))
    near = difflib.get_close_matches(name, [*available, audioset.NAME], n=1)
    near = f"did you mean {near[0]}? " if near else ""
    if not models.is_dir():
        weights = f"; {name} are weights of the network of {audioset.NAME}" if name in RELEASED else ""
        found = f"the folder {name} has no {MODEL_FILE}" if Path(name).is_dir() else "there is no such folder"
        raise UserError(
            f"there is no system {name!r}: {found}, and no folder {models}; {near}give the folder of a "
            f"trained system, a project of ust init, or {audioset.NAME}{weights}"
        )
    hint = "there are " + ", ".join(available) if available else "no system is trained yet: run dvc repro"
    raise UserError(f"{models}: no trained system {name!r}; {near}{hint}")
