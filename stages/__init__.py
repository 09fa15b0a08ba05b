"""The pipeline's stages, one script each; dvc.yaml says how they hang together."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("librosa") is None:
    sys.exit(
        f"error: {sys.executable} does not have the packages of requirements.txt. Activate the project's "
        "environment (make .venv && source .venv/bin/activate), then run the command again."
    )

DVC_TEMPORARY = Path(".dvc") / "tmp"


def from_project(path: str) -> Path:
    """A path of params.yaml, relative to the project folder.

    Queued experiments (``dvc exp run --queue``, ``--temp``) run in copies below ``.dvc/tmp`` of the project
    they belong to; for them, too, the path is relative to that project.
    """
    here = Path.cwd()
    home = next((p for p in here.parents if here.is_relative_to(p / DVC_TEMPORARY)), here)
    return (home / path).resolve()
