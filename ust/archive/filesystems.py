"""Addresses that fsspec opens: folders here, s3://…, and what else has a driver installed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from ust.util.errors import UserError


def filesystem(address: str) -> tuple[AbstractFileSystem, str]:
    """Return what opens an address, and the address as it takes it.

    What exists on this machine is a path, whatever is in its name, and so is what is no URL: fsspec alone
    takes ``::`` for a chain of file systems.

    Raises
    ------
    UserError
        If nothing installed opens it.
    """
    exists = os.path.exists(address)  # noqa: PTH110 - Path.exists raises for names that are too long
    if exists or "://" not in address:
        path = (Path(address) if exists else Path(os.path.expanduser(address))).absolute()  # noqa: PTH111
        return LocalFileSystem(), (path.resolve() if ".." in path.parts else path).as_posix()
    try:
        return fsspec.core.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise UserError(f"{address}: cannot be opened: {_reason(error)}") from None


def absolute(address: str) -> str:
    """Return an address that means the same in every working folder, however it was written.

    Examples
    --------
    >>> absolute("s3://city/2024/"), absolute("/city/./2024/")
    ('s3://city/2024', '/city/2024')
    """
    fs, place = filesystem(address)
    return place if is_local(fs) else address.rstrip("/")


def is_local(fs: AbstractFileSystem) -> bool:
    """Whether it is the file system of this machine."""
    return isinstance(fs, LocalFileSystem)


@contextmanager
def explain_errors(address: str) -> Iterator[None]:
    """Say of an error of any driver which address it was about, in one line.

    Raises
    ------
    UserError
        In the place of whatever was raised, but for errors of ours and interrupts.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{address}: there is nothing there") from None
    except PermissionError:
        raise UserError(f"{address}: not allowed; check its owner, or the credentials") from None
    except Exception as error:  # drivers raise whatever their libraries do
        if "credentials" in type(error).__name__.lower():
            raise UserError(
                f"{address}: needs credentials ({_reason(error)}); set them as its driver wants them, for S3 "
                "in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        raise UserError(f"{address}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
