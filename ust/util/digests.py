"""SHA-256 digests of what a result was computed from, by which it is recognised and not computed again."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ust.util.code import code_digests

ROOT = Path(__file__).parents[2]  # where the packages are
GENERATORS = "ust/util/seeding.py"


def digest(*parts: str | bytes) -> str:
    """Hexadecimal digest of parts and where each ends."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        whole.update(len(content).to_bytes(8, "little"))
        whole.update(content)
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    """Hexadecimal digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions(*packages: str) -> str:
    """Installed versions, such as "librosa 0.11.0, numpy 2.4.6"."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def code_digest(module: str, settings: Mapping[str, Any]) -> str:
    """Digest of how something is computed: the code a module rests on, and settings that JSON can hold.

    What the package `ust.util` says is left out, but for its random generators: no other value comes from
    there.
    """
    found = code_digests(ROOT, module).items()
    code = {path: code for path, code in found if not path.startswith("ust/util/") or path == GENERATORS}
    return digest(json.dumps([code, settings], sort_keys=True))
