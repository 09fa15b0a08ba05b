"""Unpacking archives that are not trusted."""

import tarfile
import zlib
from pathlib import Path, PurePosixPath

from ust.files.errors import UserError
from ust.files.folders import replacing_folder


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar file into a new folder, all of it or nothing.

    Only regular files and folders below the target are accepted: no absolute path, no "..", no link of
    either kind, no device file. The first one found stops the whole archive.

    Raises
    ------
    UserError
        If a member is refused or the archive is damaged; the target is then as it was before.
    """
    with replacing_folder(target, by="download") as folder:
        try:
            with tarfile.open(archive, "r:*") as tar:
                for member in tar:
                    _refuse(archive, member)
                    tar.extract(member, folder, filter="data", set_attrs=False)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise UserError(f"{archive}: cannot be unpacked: {error}; delete it and run again") from None


def _refuse(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if not (member.isreg() or member.isdir()):
        raise UserError(f"{archive}: refused: {member.name!r} is a link or a device file, not a regular file")
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise UserError(f"{archive}: refused: {member.name!r} would be written outside the target folder")
