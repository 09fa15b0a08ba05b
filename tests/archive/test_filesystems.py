"""Errors of remote file systems."""

import os

import pytest

from ust.archive.filesystems import normalize_address, open_recording_file
from ust.archive.folder import Archive
from ust.archive.recordings import find_recordings
from ust.util.errors import UserError


def open_file(address):
    with open_recording_file(address):
        pass


@pytest.mark.parametrize("read", [lambda address: Archive(address).exists(), find_recordings, open_file])
def test_missing_credentials_give_one_line(read, monkeypatch, tmp_path):
    """Of an archive, of a source that is listed, and of a recording."""
    s3fs = pytest.importorskip("s3fs")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    assert normalize_address("s3://city/in/") == "s3://city/in"  # without access
    with pytest.raises(UserError, match=r"^s3://city/in: needs credentials .* AWS_ACCESS_KEY_ID") as error:
        read("s3://city/in")
    assert "\n" not in str(error.value)
