"""Installed packages are the pinned ones, and the pins create an environment."""

import re
import subprocess
import sys
from importlib.metadata import distributions

import pytest
from conftest import ROOT


def pins(name):
    """Return versions by normalised package name."""
    lines = (ROOT / name).read_text().splitlines()
    found = (re.match(r"([A-Za-z0-9._-]+)(?:\[.*\])?==([^ \\]+)", line) for line in lines)
    return {normal(match[1]): match[2] for match in found if match}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned_with_hashes():
    pinned, hashed = pins("requirements.txt"), pins("requirements-hashes.txt")
    asked = {
        normal(re.split(r"[=\[]", line)[0])
        for line in (ROOT / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert asked <= set(pinned)
    assert hashed == {name: version for name, version in pinned.items() if name != "torch"}
    text = (ROOT / "requirements-hashes.txt").read_text()
    blocks = re.split(r"\n(?=[a-zA-Z])", text)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)


def test_installed_versions_match_the_pins():
    installed = {normal(d.metadata["Name"]): d.version.split("+")[0] for d in distributions()}
    # The variant of TensorFlow without GPUs is the same version under another name.
    installed.setdefault("tensorflow", installed.get("tensorflow-cpu"))
    wrong = {
        name: (version, installed.get(name))
        for name, version in pins("requirements.txt").items()
        if installed.get(name) != version
    }
    assert not wrong


@pytest.mark.slow
def test_pins_create_an_environment(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    hashed = ["--require-hashes", "--no-deps", "-r", ROOT / "requirements-hashes.txt"]
    subprocess.run([*pip, *hashed], check=True)
    subprocess.run([*pip, "-r", ROOT / "requirements.txt"], check=True)
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-m", "stages.train", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
