"""The pipeline's stages, one script each; dvc.yaml says how they hang together."""

from pathlib import Path

DVC_TEMPORARY = Path(".dvc") / "tmp"


def from_project(path: str) -> Path:
    """A path of params.yaml, relative to the project folder.

    Queued experiments (``dvc exp run --queue``, ``--temp``) run in copies below ``.dvc/tmp`` of the project
    they belong to; for them, too, the path is relative to that project.
    """
    here = Path.cwd()
    home = next((p for p in here.parents if here.is_relative_to(p / DVC_TEMPORARY)), here)
    return (home / path).resolve()
