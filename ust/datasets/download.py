"""Download files with checksums and retries, and unpack archives safely."""

import json
import os
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
import requests

from ust.util.errors import UserError, single_line
from ust.util.folders import atomic_folder

RETRIES = 5
TIMEOUT_SECONDS = 60


def cache_folder() -> Path:
    """Return the download cache, which all clones share: ``$UST_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("UST_CACHE") or pooch.os_cache("urban-sound-tagging"))


def download_file(
    url: str,
    folder: Path,
    *,
    name: str,
    checksum: str | None,
    retries: int = RETRIES,
    timeout: float = TIMEOUT_SECONDS,
) -> Path:
    """Download a file into a folder, unless the folder has it with the right checksum.

    The file appears under its name only when it is complete. After a broken, stalled or refused connection
    or a wrong checksum, the download is retried up to `retries` times, with growing pauses.
    """
    registry = {name: checksum}
    downloads = pooch.create(
        folder, base_url="", registry=registry, urls={name: url}, retry_if_failed=retries
    )
    try:
        return Path(downloads.fetch(name, downloader=pooch.HTTPDownloader(progressbar=True, timeout=timeout)))
    except requests.exceptions.RequestException as error:
        unreachable = isinstance(error, requests.exceptions.ConnectionError)  # its own message is long
        reason = f"no connection to {urlsplit(url).netloc}" if unreachable else str(error)
        raise UserError(
            f"{url}: the download failed {retries + 1} times, last with: {reason}; "
            "run the same command again when the connection is back"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{url}: downloaded {retries + 1} times, never with the right checksum: "
            f"{single_line(error, limit=500)}"
        ) from None


def list_zenodo_files(record: int, folder: Path, *, zenodo: str, retries: int = RETRIES) -> Mapping[str, str]:
    """Return the checksum of every file of a Zenodo record, by file name."""
    url = f"{zenodo}/api/records/{record}"
    path = download_file(url, folder, name="record.json", checksum=None, retries=retries)
    try:
        files = json.loads(path.read_text("utf-8"))["files"]
        return {file["key"]: "md5:" + file["checksum"].removeprefix("md5:") for file in files}
    except (ValueError, KeyError, TypeError, AttributeError):
        path.unlink()
        raise UserError(f"{url}: the record does not list its files as expected") from None


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar file into a new folder, atomically.

    Only regular files and folders below the target are accepted. An absolute path, "..", a link or a device
    file in the archive stops the unpacking.
    """
    with atomic_folder(target, by="download") as folder:
        try:
            with tarfile.open(archive, "r:*") as tar:
                for member in tar:
                    _check_member(archive, member)
                    tar.extract(member, folder, filter="data", set_attrs=False)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise UserError(f"{archive}: cannot be unpacked: {error}; delete it and run again") from None


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    """Raise an error for a member that is not a file or folder below the target."""
    path = PurePosixPath(member.name)
    if not (member.isreg() or member.isdir()):
        raise UserError(f"{archive}: refused: {member.name!r} is a link or a device file, not a regular file")
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise UserError(f"{archive}: refused: {member.name!r} would be written outside the target folder")
