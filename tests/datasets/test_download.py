"""Downloads with server faults, and unpacking of unsafe archives."""

import hashlib
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from records import md5

from ust.datasets import download as fetch_module
from ust.datasets.download import download_file, list_zenodo_files, unpack
from ust.datasets.sonyc import RELEASES, V1, V2, Release, download
from ust.util.errors import UserError


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)


CONTENT = b"annotations" * 10_000
CHECKSUM = f"md5:{md5(CONTENT)}"


@pytest.fixture
def fetch(server, tmp_path):
    """A function that downloads a file of the server as ``f``, with the checksum of `CONTENT`."""

    def download_content(path="/file", checksum=CHECKSUM, **options):
        return download_file(f"{server.url}{path}", tmp_path, name="f", checksum=checksum, **options)

    return download_content


@pytest.mark.whole
@pytest.mark.parametrize("fault", [503, 500, "truncate", "short", "stall", "wrong content"])
def test_a_failed_download_is_retried(server, fetch, tmp_path, fault):
    first = (None, b"other") if fault == "wrong content" else (fault, CONTENT)
    server.answers["/file"] = [first, first, (None, CONTENT)]
    assert fetch(retries=2, timeout=3).read_bytes() == CONTENT
    assert len(server.requests) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_complete_file_is_kept_and_changed_file_is_downloaded_again(server, fetch):
    server.answers["/file"] = [(None, CONTENT)]
    for _ in range(2):
        path = fetch()
    assert len(server.requests) == 1
    path.write_bytes(b"damaged")
    assert fetch().read_bytes() == CONTENT


def test_a_redirect_is_followed(server, fetch):
    server.answers["/old"] = [("redirect", f"{server.url}/new")]
    server.answers["/new"] = [(None, CONTENT)]
    assert fetch("/old").read_bytes() == CONTENT


def test_circular_redirects_are_reported(server, fetch, tmp_path):
    server.answers["/old"] = [("redirect", f"{server.url}/old")]
    with pytest.raises(UserError, match="redirect"):
        fetch("/old", retries=0)
    assert list(tmp_path.iterdir()) == []


def test_file_changed_during_resume_is_downloaded_from_the_start(server, fetch):
    old, new = b"o" * 100_000, b"n" * 100_000
    server.answers["/file"] = [("truncate", old), (None, new)]
    assert fetch(checksum=None, retries=2).read_bytes() == new


def test_concurrent_downloads_into_one_folder_are_complete(server, fetch, tmp_path):
    server.answers["/file"] = [(None, CONTENT)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fetch) for _ in range(4)]
    assert all(job.result().read_bytes() == CONTENT for job in jobs)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    ("fault", "content", "message"),
    [
        (503, CONTENT, "failed 3 times"),
        ("truncate", CONTENT, "failed 3 times"),
        ("stall", CONTENT, "failed 3 times"),
        (None, b"other", "never with the right checksum"),
        (404, CONTENT, "404"),
    ],
)
def test_last_failure_is_reported_and_leaves_no_file(server, fetch, tmp_path, fault, content, message):
    server.answers["/file"] = [(fault, content)]
    with pytest.raises(UserError, match=message):
        fetch(retries=2, timeout=0.3)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 3


def test_refused_connection_is_reported(tmp_path):
    with pytest.raises(UserError, match="run the same command again"):
        download_file("http://127.0.0.1:9/file", tmp_path, name="f", checksum=None, retries=1)


def test_cache_folder_is_set_by_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("UST_CACHE", str(tmp_path))
    assert fetch_module.cache_folder() == tmp_path


def tar_of(members):
    """Return a tar file with members given by name and either content or one of tarfile's types."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content in tarfile.SUPPORTED_TYPES:
                info.type, info.linkname = content, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_valid_archive_is_unpacked(tmp_path):
    archive = tmp_path / "audio.tar.gz"
    archive.write_bytes(tar_of([("train", tarfile.DIRTYPE), ("train/a.wav", b"a"), ("./b.wav", b"b")]))
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/train/a.wav").read_bytes() == b"a"
    assert (tmp_path / "out/b.wav").read_bytes() == b"b"


HOSTILE = {
    "parent": ("../evil", b"x"),
    "deep parent": ("a/../../evil", b"x"),
    "absolute": ("/tmp/evil-of-a-test", b"x"),
    "backslash": ("..\\evil", b"x"),
    "symlink": ("link", tarfile.SYMTYPE),
    "hard link": ("link", tarfile.LNKTYPE),
    "device": ("device", tarfile.CHRTYPE),
    "block device": ("device", tarfile.BLKTYPE),
    "fifo": ("fifo", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_unsafe_archive_unpacks_nothing(tmp_path, what):
    home = tmp_path / "home"
    home.mkdir()
    archive = home / "audio.tar.gz"
    archive.write_bytes(tar_of([("good.wav", b"good"), HOSTILE[what]]))
    with pytest.raises(UserError, match="refused"):
        unpack(archive, home / "out")
    assert [p.name for p in home.iterdir()] == ["audio.tar.gz"]
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_archive_unpacks_nothing(tmp_path, share):
    archive = tmp_path / "audio.tar.gz"
    content = tar_of([(f"{i}.wav", hashlib.sha256(bytes([i])).digest() * 100) for i in range(50)])
    archive.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["audio.tar.gz"]


@pytest.fixture
def zenodo(server):
    """A record with two archives on the local server; the MD5 of one is known only to the record."""
    files = {
        "annotations.csv": b"split\n",
        "dcase-ust-taxonomy.yaml": b"coarse: {}\n",
        "audio-0.tar.gz": tar_of([("audio/a.wav", b"a")]),
        "audio-1.tar.gz": tar_of([("audio/b.wav", b"b")]),
    }
    for name, content in files.items():
        server.answers[f"/records/7/files/{name}"] = [(None, content)]
    listed = [{"key": name, "checksum": f"md5:{md5(content)}"} for name, content in files.items()]
    server.answers["/api/records/7"] = [(None, json.dumps({"files": listed}).encode())]
    known = {name: md5(content) for name, content in files.items() if name != "audio-1.tar.gz"}
    return Release(7, ("audio-0.tar.gz", "audio-1.tar.gz"), known)


def test_a_release_is_downloaded_once(server, tmp_path, zenodo):
    folders = download(zenodo, tmp_path, zenodo=server.url)
    assert [sorted(p.name for p in folder.rglob("*.wav")) for folder in folders] == [["a.wav"], ["b.wav"]]
    assert not list(tmp_path.glob("*.tar.gz"))
    before = len(server.requests)
    assert download(zenodo, tmp_path, zenodo=server.url) == folders
    assert len(server.requests) == before


def test_an_interrupted_release_is_resumed(server, tmp_path, zenodo):
    second = server.answers.pop("/records/7/files/audio-1.tar.gz")
    with pytest.raises(UserError, match=r"audio-1\.tar\.gz"):
        download(zenodo, tmp_path, zenodo=server.url, retries=0)
    server.answers["/records/7/files/audio-1.tar.gz"] = second
    download(zenodo, tmp_path, zenodo=server.url)
    assert server.requests.count("/records/7/files/audio-0.tar.gz") == 1


def test_an_archive_that_fails_its_checksum_is_not_unpacked(server, tmp_path, zenodo):
    server.answers["/records/7/files/audio-0.tar.gz"] = [(None, tar_of([("audio/evil.wav", b"e")]))]
    with pytest.raises(UserError, match="right checksum"):
        download(zenodo, tmp_path, zenodo=server.url, retries=1)
    assert not list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize("record", [b"no JSON", b"[]", b'{"files": [{"key": 1}]}'])
def test_record_in_another_format_is_reported(server, tmp_path, record):
    server.answers["/api/records/7"] = [(None, record)]
    with pytest.raises(UserError, match="does not list its files"):
        list_zenodo_files(7, tmp_path, zenodo=server.url)


def test_releases_match_the_published_records():
    v1, (v2,) = RELEASES["sonyc-ust-v1"], RELEASES["sonyc-ust-v2"].values()
    assert {version: release.record for version, release in v1.items()} == {
        "0.1": 2590742, "0.2": 3233082, "1.0": 3338310
    }  # fmt: skip
    assert (V1.latest, V2.latest) == ("1.0", "2.3")
    assert v1["0.2"].annotations == "annotations-dev.csv"
    assert {version: sum(release.clips.values()) for version, release in v1.items()} == {
        "0.1": 2794, "0.2": 2794, "1.0": 3068
    }  # fmt: skip
    assert v2.record == 3966543
    assert v2.archives == tuple(f"audio-{i}.tar.gz" for i in range(19))
    assert set(v2.archives) <= set(v2.md5)
    assert len(set(v2.md5.values())) == 21
    assert v2.md5["audio-18.tar.gz"] == "c6b2ef4d0d5b7269d465c469cdbbdc4b"
    assert v1["0.1"].md5["dcase-ust-taxonomy.yaml"] == v2.md5["dcase-ust-taxonomy.yaml"]


def test_known_checksums_match_the_real_files(sonyc_ust_v1):
    for name in ("annotations.csv", "dcase-ust-taxonomy.yaml"):
        assert md5((sonyc_ust_v1 / name).read_bytes()) == RELEASES["sonyc-ust-v1"]["0.1"].md5[name]
