"""Outputs shared between clones through an S3 remote."""

import shutil

import pytest
from moto.server import ThreadedMotoServer
from project import Project, ran


@pytest.fixture(scope="module")
def server():
    """The address of a local S3 server."""
    running = ThreadedMotoServer("127.0.0.1", 0)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.mark.slow
def test_second_clone_pulls_outputs_of_the_first(project, server, tmp_path):
    import s3fs

    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    s3fs.S3FileSystem(key="a", secret="b", client_kwargs={"endpoint_url": server}).mkdir("lab")
    first, second = Project(tmp_path / "first"), Project(tmp_path / "second")
    for clone in (first, second):
        project.run("git", "clone", "-q", ".", clone.path)
        clone.environment |= keys | {"UST_CACHE": str(tmp_path / "cache")}
        clone.dvc("remote", "add", "--local", "--default", "lab", "s3://lab/dvc")
        clone.dvc("remote", "modify", "--local", "lab", "endpointurl", server)
    shutil.copytree(project.path / ".dvc" / "cache", first.path / ".dvc" / "cache", dirs_exist_ok=True)
    first.dvc("checkout")
    first.dvc("repro")
    first.dvc("push")
    second.dvc("pull")
    # Each clone downloads the recordings itself, as DVC does not cache them.
    assert ran(second.dvc("repro")) <= {"download"}
    assert second.run("git", "status", "--porcelain") == ""
