"""Downloading: whole and verified, or not at all; tried again when the connection breaks."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pooch
import requests

from ust.files.errors import UserError

RETRIES = 5
TIMEOUT_SECONDS = 60


def cache_folder() -> Path:
    """Where downloads are kept for all clones: ``$UST_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("UST_CACHE") or pooch.os_cache("urban-sound-tagging"))


def fetch(
    url: str,
    folder: Path,
    *,
    name: str,
    checksum: str | None,
    retries: int = RETRIES,
    timeout: float = TIMEOUT_SECONDS,
) -> Path:
    """Download a file into a folder unless it is there with the right checksum.

    The file appears under its name only when it is whole. Broken, stalled or refused connections and wrong
    checksums are tried again, `retries` times, with growing pauses.

    Parameters
    ----------
    url : str
    folder : Path
        Made when missing.
    name : str
        File name in the folder.
    checksum : str or None
        Expected, such as "md5:c836…" or "sha256:0962…"; None where nobody published one.
    retries : int
    timeout : float
        Seconds without a byte after which a connection counts as broken.

    Raises
    ------
    UserError
        When the last try failed, with its reason.
    """
    registry = {name: checksum}
    keeper = pooch.create(folder, base_url="", registry=registry, urls={name: url}, retry_if_failed=retries)
    try:
        return Path(keeper.fetch(name, downloader=pooch.HTTPDownloader(progressbar=True, timeout=timeout)))
    except requests.exceptions.RequestException as error:
        raise UserError(
            f"{url}: the download failed {retries + 1} times, last with: {error}; "
            "run the same command again when the connection is back"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{url}: downloaded {retries + 1} times, never with the right checksum: "
            f"{' '.join(str(error).split())}"
        ) from None


def zenodo_files(record: int, folder: Path, *, zenodo: str, retries: int = RETRIES) -> Mapping[str, str]:
    """Checksum of every file of a Zenodo record, by file name, from the record's JSON.

    Raises
    ------
    UserError
        When the record cannot be had or is not in the known form.
    """
    url = f"{zenodo}/api/records/{record}"
    path = fetch(url, folder, name="record.json", checksum=None, retries=retries)
    try:
        files = json.loads(path.read_text("utf-8"))["files"]
        return {file["key"]: "md5:" + file["checksum"].removeprefix("md5:") for file in files}
    except (ValueError, KeyError, TypeError, AttributeError):
        path.unlink()
        raise UserError(f"{url}: the record does not list its files as expected") from None
