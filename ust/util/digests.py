"""SHA-256 digests of data and source code; a result is reused if the digest of its inputs is unchanged."""

import hashlib
from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]  # the folder that contains the package ust


def digest(*parts: str | bytes) -> str:
    """Return the hexadecimal digest of several parts, each preceded by its length."""
    sha256 = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        sha256.update(len(content).to_bytes(8, "little"))
        sha256.update(content)
    return sha256.hexdigest()


def file_digest(path: Path) -> str:
    """Return the hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions(*packages: str) -> str:
    """Return the installed versions of packages, such as "librosa 0.11.0, numpy 2.4.6"."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


@cache
def source_digest(*places: str) -> str:
    """Return the digest of source files or folders relative to `ROOT`, by default of the package `ust`."""
    files: set[Path] = set()
    for place in places or ("ust",):
        path = ROOT / place
        files |= {path} if path.is_file() else set(path.rglob("*.py"))
    parts = ((path.relative_to(ROOT).as_posix(), path.read_bytes()) for path in sorted(files))
    return digest(*chain.from_iterable(parts))
