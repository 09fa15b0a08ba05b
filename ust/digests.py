"""SHA-256 digests of what a result was computed from, by which it is recognised and not computed again."""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any


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


def method_digest(modules: Iterable[ModuleType], settings: Mapping[str, Any]) -> str:
    """Digest of how something is computed: the source of modules, and settings that JSON can hold."""
    sources = [Path(module.__file__).read_bytes() for module in modules]
    return digest(json.dumps(settings, sort_keys=True), *sources)


def project_modules() -> list[ModuleType]:
    """The project's modules that this process has imported."""
    return [sys.modules[name] for name in sorted(sys.modules) if name.split(".")[0] in ("stages", "ust")]
