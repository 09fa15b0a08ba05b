"""Stages killed, starved of disk, run twice, given damaged files: nothing is lost, all is explained."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from conftest import ROOT
from project import TINY, Project, change_params, clone

RAW = ("raw/annotations.csv", "raw/dcase-ust-taxonomy.yaml")
SYSTEM = "cnn_vggish_8"
CITY = {
    "data.synthetic.train": 5,
    "data.synthetic.validate": 3,
    "augment.noise.proportion": 0.4,
    f"systems.{SYSTEM}.max_epochs": 4,
}
# What each stage is run with; {out} is replaced by a name for its output.
STAGES = {
    "download": ("{out}",),
    "augment": ("raw/audio", "{out}"),
    "extract_logmel": ("raw/audio", "none", "{out}"),
    "extract_vggish": ("raw/audio", "none", "weights", "{out}"),
    "train": (
        SYSTEM,
        "logmel.h5",
        "vggish.h5",
        "labels.csv",
        "any.csv",
        RAW[1],
        "{out}",
        "--curves",
        "{out}.c",
    ),
    "evaluate": ("predictions.csv", *RAW, "{out}", "--details", "{out}.details"),
}  # fmt: skip


def stages(*often, of=STAGES):
    """Stages as parameters: those named in the normal suite, all of them in `make test-slow`."""
    return [stage if stage in often else pytest.param(stage, marks=pytest.mark.slow) for stage in of]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the code and, made by the stages, a tiny city and all that each stage reads."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("stages", "ust"):
        (folder / name).symlink_to(ROOT / name)
    change_params(ROOT / "params.yaml", folder / "params.yaml", TINY | CITY)
    work = Project(folder)
    work.stage("download", "raw")
    work.stage("aggregate_labels", *RAW, "labels.csv", "any.csv")
    work.stage("extract_logmel", *words("extract_logmel", "logmel.h5"))
    work.stage("vggish_weights", "weights")
    work.stage("extract_vggish", *words("extract_vggish", "vggish.h5"))
    work.stage("train", *words("train", "model"))
    work.stage("predict", "model/coarse", "logmel.h5", "vggish.h5", "labels.csv", RAW[1], "predictions.csv",
               "--train", "predictions-train.csv")  # fmt: skip
    return work


# Those of the fixture's outputs that a test can compare with.
MADE = {
    "download": "raw",
    "extract_logmel": "logmel.h5",
    "extract_vggish": "vggish.h5",
    "train": "model",
}


def words(stage, out):
    return [word.format(out=out) for word in STAGES[stage]]


def content(path):
    """The bytes of a file, or of all files of a folder."""
    if path.is_dir():
        return {
            str(file.relative_to(path)): file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file()
        }
    return path.read_bytes()


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.endswith((".partial", ".parts"))]


def changes(work, stage, out):
    """How often a stage changes a file of its output."""
    code, output = work.struck("count", 0, out, stage, *words(stage, out))
    assert code == 0, output
    return int(output.split("changes: ")[1].split()[0])


@pytest.mark.parametrize("stage", stages("extract_logmel", "train", "evaluate"))
def test_a_stage_killed_at_any_point_gives_the_same_in_the_end(work, stage):
    """At the first, the last and any other change of a file; the output is there before or not."""
    count = changes(work, stage, "undisturbed")
    rng = np.random.default_rng(list(stage.encode()))
    for number in (1, count, int(rng.integers(1, count + 1))):
        code, output = work.struck("kill", number, "disturbed", stage, *words(stage, "disturbed"))
        # One that is there already may leave less to do.
        assert code == -signal.SIGKILL or (code == 0 and number > 1), output
    work.stage(stage, *words(stage, "disturbed"))
    for path in work.path.glob("undisturbed*"):
        assert content(path) == content(work.path / path.name.replace("un", "", 1)), path
    assert not leftovers(work.path)
    for path in work.path.glob("*disturbed*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def kill_after_an_epoch(work, out):
    """Run a training and kill it when it is about to keep the state of its second epoch."""
    state = f".{out}.partial/.state/{SYSTEM}.safetensors"
    code, output = work.struck("kill", 2, state, "train", *words("train", out))
    assert code == -signal.SIGKILL, output


def test_training_goes_on_after_its_last_epoch(work):
    kill_after_an_epoch(work, "resumed")
    output = work.stage("train", *words("train", "resumed"))
    assert f"{SYSTEM}: going on after epoch 1" in output
    assert f"{SYSTEM} epoch 1 " not in output
    assert content(work.path / "resumed") == content(work.path / "model")
    assert content(work.path / "resumed.c") == content(work.path / "model.c")


def test_training_does_not_go_on_with_other_parameters(work):
    kill_after_an_epoch(work, "other")
    change_params(work.path / "params.yaml", work.path / "slower.yaml", {"train.lr": 0.001})
    output = work.stage("train", *words("train", "other"), "--params", "slower.yaml")
    assert "going on" not in output
    assert f"{SYSTEM} epoch 1 " in output


def test_a_clip_more_costs_one_clip(work, tmp_path):
    """Values are taken from the file that is there, by content: names do not matter, samples do."""
    shutil.copytree(work.path / "raw" / "audio", tmp_path / "audio")
    out = tmp_path / "logmel.h5"
    work.stage("extract_logmel", tmp_path / "audio", "none", out)
    train = tmp_path / "audio" / "train"
    first, second = sorted(train.iterdir())[:2]
    first.rename(train / "renamed.wav")
    samples = bytearray(second.read_bytes())
    samples[-2:] = b"\1\0"
    second.write_bytes(samples)
    output = work.stage("extract_logmel", tmp_path / "audio", "none", out)
    assert "7 of 8 clips are done" in output
    work.stage("extract_logmel", tmp_path / "audio", "none", tmp_path / "afresh.h5")
    assert out.read_bytes() == (tmp_path / "afresh.h5").read_bytes()
    change_params(work.path / "params.yaml", tmp_path / "params.yaml", {"logmel.hop_length": 256})
    output = work.stage(
        "extract_logmel", tmp_path / "audio", "none", out, "--params", tmp_path / "params.yaml"
    )
    assert "are done" not in output


def test_good_clips_are_kept_when_one_is_bad(work, tmp_path):
    shutil.copytree(work.path / "raw" / "audio", tmp_path / "audio")
    bad = sorted((tmp_path / "audio" / "train").iterdir())[3]
    whole = bad.read_bytes()
    bad.write_bytes(whole[:1000])
    output = work.stage("extract_logmel", tmp_path / "audio", "none", tmp_path / "l.h5", code=1)
    assert f"{bad}: is truncated" in output
    bad.write_bytes(whole)
    assert "7 of 8 clips are done" in work.stage(
        "extract_logmel", tmp_path / "audio", "none", tmp_path / "l.h5"
    )
    assert (tmp_path / "l.h5").read_bytes() == (work.path / "logmel.h5").read_bytes()


@pytest.mark.parametrize("stage", stages("extract_logmel", of=("extract_logmel", "extract_vggish")))
def test_the_number_of_workers_does_not_matter(work, tmp_path, stage):
    alone = Project(work.path)
    alone.environment = work.environment | {"LOKY_MAX_CPU_COUNT": "1"}
    alone.stage(stage, *words(stage, tmp_path / "one.h5"))
    alone.environment |= {"LOKY_MAX_CPU_COUNT": "3"}
    alone.stage(stage, *words(stage, tmp_path / "three.h5"))
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "three.h5").read_bytes()


# Kilobytes for which there is too little room, at the beginning or towards the end.
SIZES = {
    "download": (64, 4_000),
    "augment": (64, 1_000),
    "extract_logmel": (300, 1_500, 2_000),
    "extract_vggish": (64,),
    "train": (64, 6_000),
    "evaluate": (4,),
}


@pytest.mark.parametrize("stage", stages("extract_logmel"))
def test_a_full_disk_is_named_and_a_larger_one_is_enough(work, disk, stage):
    for size in SIZES[stage]:
        folder = disk(f"size={size}k")
        output = work.stage(stage, *words(stage, folder / "out"), code=1)
        assert "no space is left on the disk" in output
        assert str(folder) in output
        assert "Traceback" not in output
        assert not (folder / "out").exists()
    disk("size=200m")
    work.stage(stage, *words(stage, folder / "out"))
    if stage in MADE:
        assert content(folder / "out") == content(work.path / MADE[stage])
    assert not leftovers(folder)


@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_that_cannot_be_written_to(work, disk, stage):
    folder = disk("size=1m")
    disk("ro")
    output = work.stage(stage, *words(stage, folder / "out"), code=1)
    assert f"{folder}/" in output
    assert "ead-only file system" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("stage", stages("extract_logmel", of=("download", "extract_logmel", "train")))
def test_a_folder_deleted_while_a_stage_writes_to_it(work, stage):
    count = changes(work, stage, "gone/out")
    shutil.rmtree(work.path / "gone")
    for number in (2, count // 2, count):
        code, output = work.struck("remove", number, "gone/out", stage, *words(stage, "gone/out"))
        if code:  # or what was deleted has been made again
            assert code == 1, output
            assert "error: " in output
            assert "gone" in output
        assert "Traceback" not in output
        work.stage(stage, *words(stage, "gone/out"))
        assert (work.path / "gone" / "out").exists()
        shutil.rmtree(work.path / "gone")


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_feature_file_is_named_and_made_again(work, tmp_path, damage):
    whole = (work.path / "logmel.h5").read_bytes()
    path = tmp_path / "logmel.h5"
    damaged = bytearray(whole[: len(whole) // 2] if damage == "truncated" else whole)
    with h5py.File(work.path / "logmel.h5") as file:
        damaged[file["logmel"].id.get_chunk_info(1).byte_offset + 1000] ^= 1
    path.write_bytes(damaged)
    train = words("train", tmp_path / "out")
    train[1] = path
    output = work.stage("train", *train, code=1)
    assert f"{path}: damaged" in output
    assert "run the stage extract_logmel again" in output
    output = work.stage("extract_logmel", *words("extract_logmel", path))
    assert "of 8 clips are done" in output or damage == "truncated"
    assert path.read_bytes() == whole


@pytest.mark.parametrize("stage", stages("train", of=("download", "extract_logmel", "train")))
def test_two_runs_at_once_of_a_stage_give_one_whole_output(work, stage):
    command = ("python", "-m", f"stages.{stage}", *words(stage, "twice"))
    both = [
        subprocess.Popen(command, cwd=work.path, env=work.environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [running.communicate()[1] for running in both]
    assert [running.returncode for running in both] == [0, 0], outputs
    assert content(work.path / "twice") == content(work.path / MADE[stage])
    assert not leftovers(work.path)
    for path in work.path.glob("twice*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_second_dvc_waits_or_says_so(tmp_path):
    project = clone(tmp_path / "project", TINY)
    command = ("dvc", "repro", "download")
    both = [
        subprocess.Popen(
            command, cwd=project.path, env=project.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [running.communicate()[0] for running in both]
    codes = [running.returncode for running in both]
    assert 0 in codes
    if codes != [0, 0]:
        refused = outputs[codes.index(max(codes))]
        assert "another" in refused or "busy" in refused, refused
    project.dvc("repro", "download")
    assert len(list((project.path / "data/raw/audio").glob("*/*.wav"))) == 16


KILLED_BY_DVC = ("download", "extract_logmel", "extract_vggish", f"train@{SYSTEM}", "evaluate@baseline_fine")


@pytest.mark.slow
@pytest.mark.parametrize("target", KILLED_BY_DVC)
def test_dvc_killed_at_twenty_moments(tmp_path_factory, target):
    """`dvc repro` and all it started are killed; the next one ends with the same outputs and dvc.lock.

    DVC writes `.dvc/tmp/rwlock` in place: killed in that very moment, it leaves an empty file and then asks
    for that to be deleted. That is done here as a user would do it, and nothing else.
    """
    project = clone(tmp_path_factory.mktemp("clone") / "project", TINY)
    project.dvc("repro", target)
    lock = (project.path / "dvc.lock").read_bytes()
    outs = project.outs(target)
    wanted = [content(project.path / out) for out in outs]
    again = ("dvc", "repro", "--no-run-cache", "--single-item", target)

    def forget():
        (project.path / "dvc.lock").write_bytes(lock)
        for out in outs:
            path = project.path / out
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    forget()
    start = time.monotonic()
    project.run(*again)
    duration = time.monotonic() - start
    killed, rng = 0, np.random.default_rng(0)
    while killed < 20:
        forget()
        start = time.monotonic()
        if not project.kill(*again, after=duration * rng.uniform()):
            duration = time.monotonic() - start  # it ended before, so it takes less time than it did
            continue
        killed += 1
        rwlock = project.path / ".dvc" / "tmp" / "rwlock"
        if rwlock.exists() and not rwlock.read_text().strip():
            rwlock.unlink()
        project.run(*again)
        assert [content(project.path / out) for out in outs] == wanted
        assert (project.path / "dvc.lock").read_bytes() == lock
        assert not leftovers(project.path / "data")
        assert not leftovers(project.path / "models")


def test_what_killed_processes_left_is_removed(tmp_path):
    from ust.files import replacing

    old = tmp_path / ".a.csv.999999999.partial"
    old.write_text("half")
    other = tmp_path / f".a.csv.{os.getppid()}.partial"
    other.write_text("of a process that runs")
    zombie = subprocess.Popen(["true"])
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    (tmp_path / f".a.csv.{zombie.pid}.partial").write_text("of one that ended")
    with replacing(tmp_path / "a.csv") as partial:
        partial.write_text("whole")
    zombie.wait()
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a.csv", other])
    assert Path(tmp_path / "a.csv").read_text() == "whole"
