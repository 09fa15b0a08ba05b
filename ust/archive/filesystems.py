"""Local paths and remote addresses (s3://… and others with an installed driver), opened through fsspec."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from ust.util.errors import UserError, single_line
from ust.util.names import restore_name


def resolve_address(address: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of an address, and the path in that file system, without access to it.

    A path that exists on this machine is taken literally, even if its name looks like a URL or contains
    ``::``, which fsspec alone would take for a chain of file systems.
    """
    exists = os.path.exists(address)  # noqa: PTH110 - Path.exists raises for names that are too long
    if exists or "://" not in address:
        path = (Path(address) if exists else Path(os.path.expanduser(address))).absolute()  # noqa: PTH111
        return LocalFileSystem(), (path.resolve() if ".." in path.parts else path).as_posix()
    try:
        return fsspec.core.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise UserError(f"{address}: cannot be opened: {single_line(error, limit=500)}") from None


def normalize_address(address: str) -> str:
    """Return an address in a normal form that does not depend on the working folder.

    Examples
    --------
    >>> normalize_address("s3://city/2024/"), normalize_address("/city/./2024/")
    ('s3://city/2024', '/city/2024')
    """
    fs, path = resolve_address(address)
    return path if is_local(fs) else address.rstrip("/")


def is_local(fs: AbstractFileSystem) -> bool:
    """Return whether a file system is the local one."""
    return isinstance(fs, LocalFileSystem)


@contextmanager
def explain_errors(address: str) -> Iterator[None]:
    """Turn errors of fsspec drivers into one-line messages that name the address."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{address}: does not exist") from None
    except PermissionError:
        raise UserError(f"{address}: not allowed; check its owner, or the credentials") from None
    except Exception as error:  # drivers let exceptions of their libraries through
        if "credentials" in type(error).__name__.lower():
            raise UserError(
                f"{address}: needs credentials ({single_line(error, limit=500)}); set them as its driver "
                "documents, for S3 in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        raise UserError(f"{address}: {single_line(error, limit=500)}") from error


@contextmanager
def open_recording_file(address: str) -> Iterator[BinaryIO]:
    """Open a recording of an archive, whose name may have bytes that are not UTF-8 escaped."""
    fs, path = resolve_address(address)
    with explain_errors(address):
        if "\\x" in path and not fs.exists(path):
            path = restore_name(path)
        file = fs.open(path, "rb")
    with file:
        yield file
