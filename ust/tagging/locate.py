"""Find a system and its pretrained networks: trained, exported, of a project, or published."""

from pathlib import Path
from typing import Any, NamedTuple

from ust.datasets.download import cache_folder
from ust.datasets.source import TAXONOMY
from ust.models.checkpoints import MODEL_FILE
from ust.tagging import audioset
from ust.tagging.pretrained import is_packed, unpack
from ust.util.errors import UserError

PRETRAINED = "pretrained"  # folder of the pretrained networks, beside the systems
PROJECT_MODEL = "model"  # the folder of a project with the tagger that it trained


class Location(NamedTuple):
    """Folder of a system, folder of its pretrained networks, and post-processing options."""

    system: Path
    networks: Path
    inference_options: dict[str, Any]


def locate(path_or_name: str | Path, *, checkpoint: Path | None = None) -> Location:
    """Find a system, checking the SHA-256 of every file of an exported one."""
    path = Path(path_or_name)
    if checkpoint is not None and str(path_or_name) != audioset.NAME:
        raise UserError(
            f"{checkpoint}: a file of weights belongs to the system audioset, not to {path_or_name}"
        )
    if (path / MODEL_FILE).is_file():
        return Location(path, find_networks(path), {})
    if is_packed(path):
        return Location(*unpack(path))
    if is_project(path):
        trained = is_packed(path / PROJECT_MODEL)
        return Location(*unpack(path / PROJECT_MODEL if trained else audioset.prepare_project(path)))
    if str(path_or_name) == audioset.NAME:
        return Location(*unpack(audioset.prepare_audioset(checkpoint=checkpoint)))
    if is_packed(cache_folder() / "models" / path):
        return Location(*unpack(cache_folder() / "models" / path))
    if path.is_dir():
        return Location(path, find_networks(path), {})  # which names the files that it lacks
    raise UserError(
        f"{path_or_name}: no such file or folder; should be the folder of a trained system, a folder of ust "
        f"export, a project of ust init, or {audioset.NAME}"
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
