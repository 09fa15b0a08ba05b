"""SHA-256 digests of what a result was computed from, by which it is recognised and not computed again."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]  # where the packages are


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


@cache
def source_digest(*places: str) -> str:
    """Digest of source files: all of the package `ust`, or some files and folders beside it."""
    files: set[Path] = set()
    for place in places or ("ust",):
        path = ROOT / place
        files |= {path} if path.is_file() else set(path.rglob("*.py"))
    names = {path: path.relative_to(ROOT).as_posix() for path in files}
    return digest(*(part for path in sorted(files) for part in (names[path], path.read_bytes())))
