"""Addresses that fsspec opens: folders here, s3://…, and what else has a driver installed."""

from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from ust.files.errors import UserError


def filesystem(address: str) -> tuple[AbstractFileSystem, str]:
    """What opens an address, and the address as it takes it.

    Raises
    ------
    UserError
        If nothing installed opens it.
    """
    try:
        return fsspec.core.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise UserError(f"{address}: cannot be opened: {_reason(error)}") from None


def is_local(fs: AbstractFileSystem) -> bool:
    """Whether it is the file system of this machine."""
    return isinstance(fs, LocalFileSystem)


@contextmanager
def explaining(address: str) -> Iterator[None]:
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
