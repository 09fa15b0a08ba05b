"""Every command and Python example in README.md and docs/ exits with code 0."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import RATE, ROOT
from pages import blocks, commands

ELSEWHERE = "your-sounds.md"  # test_project.py runs its commands, in a folder with recordings
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != ELSEWHERE)]
# Pages whose commands take minutes.
LONG = (
    "README.md",
    "archives.md",
    "data.md",
    "experiments.md",
    "few-labels.md",
    "export.md",
    "labels.md",
    "sonyc-v2.md",
    "systems.md",
    "tagging.md",
)
# Pages whose commands follow `make repro` in a fresh clone, whose committed dvc.lock is of another machine.
AFTER_REPRO = ("README.md", "experiments.md", "submissions.md")
# Commands that tests cannot run, by a part of them.
NOT_RUN = {
    "make test": "this is it, or would be an hour of it",
    "make bench": "takes minutes and the machine for itself; test_benchmarks.py runs one of them",
    "make check-repro": "runs the whole pipeline twice; test_pipeline.py tests how it compares",
    "python -m benchmarks": "the same",
    "make check-sonyc": "needs a network and days; test_report_check.py runs it on a tiny city",
    "make leaderboard": "takes an hour; test_leaderboard.py runs two systems",
    "python -m stages.leaderboard": "the same",
    "source .venv/bin/activate": "is in place",
    "mkdocs serve": "does not end",
    "sonyc-ust-v": "needs a network and a day",
    "mn04_as": "needs the published weights",
    "preset pretrained": "the same; test_experiments.py runs the preset and its ensemble with random ones",
    "dvc remote add": "needs a bucket",
    "pip install": "changes the environment",
}


def runnable(page):
    return [command for command in commands(page) if not any(part in command for part in NOT_RUN)]


@pytest.fixture(scope="module")
def place(project):
    """The finished project with the recordings and data sets that the pages use."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(25 * RATE)
    (project.path / "recordings").mkdir()
    for name in ("street.flac", "recordings/a.wav"):
        sf.write(project.path / name, noise, RATE)
    sf.write(project.path / "clip.wav", noise[: 10 * RATE], RATE)
    project.stage("download", project.path.parent / "my-data")
    (project.path.parent / "my-data" / "dataset.json").unlink()
    (project.path / ".venv").mkdir()
    (project.path / ".venv" / "installed").touch()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (project.path / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    excluded = "street.flac\nclip.wav\nrecordings\n.venv\nexported\ntagged\ntags.csv\nscores.json\n"
    (project.path / ".git" / "info" / "exclude").write_text(excluded)
    return project


def commit_lock_of_another_machine(place):
    """Commit a dvc.lock whose outputs no cache has; the working tree keeps its own, as after make repro."""
    lock = place.path / "dvc.lock"
    own = lock.read_text()
    lock.write_text(re.sub(r"md5: (\w)", lambda match: f"md5: {'1' if match[1] == '0' else '0'}", own))
    place.run("git", "commit", "-q", "-m", "dvc.lock of another machine", "dvc.lock")
    lock.write_text(own)


def run_page(place, page):
    head = place.run("git", "rev-parse", "HEAD").strip()
    if page.name in AFTER_REPRO:
        commit_lock_of_another_machine(place)
    for command in runnable(page):
        place.shell(command)
    place.run("git", "reset", "-q", "--hard", head)
    place.dvc("checkout", "-q", "--force")
    place.dvc("exp", "remove", "-q", "--all-commits")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in LONG and runnable(page)], ids=lambda p: p.name
)
def test_commands_of_a_short_page_run(place, page):
    run_page(place, page)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name in LONG], ids=lambda p: p.name)
def test_commands_of_a_long_page_run(place, page):
    run_page(place, page)


def test_long_pages_have_commands_that_are_run():
    for page in PAGES:
        if page.name in LONG:
            assert runnable(page), page


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda p: p.name)
def test_python_examples_of_a_page_run(place, page):
    for block in blocks(page, "python"):
        place.python(block)


@pytest.mark.slow
def test_exported_system_works_without_this_project(place, tmp_path):
    """The program of the model card gives, in isolated Python, the predictions of the stage predict."""
    place.stage("export", tmp_path / "exported", "--clips", "3")
    (clip, *_) = sorted((place.path / "data/raw/audio/validate").iterdir())
    shutil.copy(clip, tmp_path / "exported" / "clip.wav")
    card = tmp_path / "exported" / "MODEL_CARD.md"
    (program,) = blocks(card, "python")
    program += "for label, p in zip(labels, probabilities): print(label, p)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path / "exported", capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(line.split() for line in done.stdout.splitlines()[-37:])
    header, first, *_ = (place.path / "data/predictions/cnn_vggish_coarse.csv").read_text().splitlines()
    wanted = dict(zip(header.split(","), first.split(","), strict=True))
    assert wanted.pop("audio_filename") == clip.name
    assert found.keys() == wanted.keys()
    assert {k: float(p) for k, p in found.items()} == pytest.approx(
        {k: float(p) for k, p in wanted.items()}, abs=1e-3
    )
    text = card.read_text("utf-8")
    assert "random weights" in text
    assert "Synthesised sounds" in text
    assert "/tmp" not in text


def test_links_have_targets():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_site_is_built_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Tagger" in (tmp_path / "site" / "api" / "use" / "index.html").read_text("utf-8")
