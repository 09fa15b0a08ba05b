"""Stages that are killed, run out of disk space, run twice, or read damaged files."""

import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
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
# Arguments of each stage; {out} is replaced by the path of its output.
STAGES = {
    "download": ("{out}",),
    "augment": ("raw/audio", "{out}"),
    "extract logmel": ("raw/audio", "none", "{out}"),
    "extract vggish": ("raw/audio", "none", "{out}", "--network", "pretrained/vggish"),
    "train": (SYSTEM, "features", "labels", RAW[1], "{out}", "{out}.csv"),
    "evaluate": ("predictions.csv", *RAW, "{out}", "--details", "{out}.details"),
}  # fmt: skip


def stages(*often, of=STAGES):
    """Return stages as parameters; those not named are marked slow."""
    return [stage if stage in often else pytest.param(stage, marks=pytest.mark.slow) for stage in of]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the code, a tiny city and all inputs of each stage."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("stages", "ust"):
        (folder / name).symlink_to(ROOT / name)
    change_params(ROOT / "params.yaml", folder / "params.yaml", TINY | CITY)
    work = Project(folder)
    work.stage("download", "raw")
    work.stage("aggregate_labels", "majority", *RAW, "labels/majority.csv")
    work.stage("weights", "vggish", "pretrained/vggish")
    for feature in ("logmel", "vggish"):
        work.stage("extract", *words(f"extract {feature}", f"features/{feature}.h5"))
    work.stage("train", *words("train", f"models/{SYSTEM}"))
    work.stage("predict", SYSTEM, "models", "features", *RAW, "predictions.csv",
               "--train", "predictions-train.csv")  # fmt: skip
    return work


# Outputs of the fixture `work`, for comparison.
MADE = {
    "download": "raw",
    "extract logmel": "features/logmel.h5",
    "extract vggish": "features/vggish.h5",
    "train": f"models/{SYSTEM}",
}


def words(stage, out):
    """Return the arguments of a stage; the feature is part of its name."""
    return [*stage.split()[1:], *(word.format(out=out) for word in STAGES[stage])]


def script(stage):
    return stage.split()[0]


def content(path):
    """Return the bytes of a file, or of all files in a folder."""
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
    """Return how often a stage changes a file of its output."""
    return work.changes(out, script(stage), *words(stage, out))


@pytest.mark.parametrize("stage", stages("extract logmel", "train", "evaluate"))
def test_stage_killed_at_any_point_gives_the_same_output_in_the_end(work, stage):
    """Killed before the first, the last and a random change of a file, with or without an earlier output."""
    count = changes(work, stage, "undisturbed")
    rng = np.random.default_rng(list(stage.encode()))
    for number in (1, count, int(rng.integers(1, count + 1))):
        code, output = work.run_with_fault(
            "kill", number, "disturbed", script(stage), *words(stage, "disturbed")
        )
        # With an earlier output there may be fewer changes.
        assert code == -signal.SIGKILL or (code == 0 and number > 1), output
    work.stage(script(stage), *words(stage, "disturbed"))
    for path in work.path.glob("undisturbed*"):
        assert content(path) == content(work.path / path.name.replace("un", "", 1)), path
    assert not leftovers(work.path)
    for path in work.path.glob("*disturbed*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def kill_after_an_epoch(work, out):
    """Run a training and kill it before it saves the state of its second epoch."""
    state = f".{out}.partial/.state/{SYSTEM}.safetensors"
    code, output = work.run_with_fault("kill", 2, state, "train", *words("train", out))
    assert code == -signal.SIGKILL, output


def test_training_resumes_after_its_last_saved_epoch(work):
    kill_after_an_epoch(work, "resumed")
    output = work.stage("train", *words("train", "resumed"))
    assert f"{SYSTEM}: resuming after epoch 1" in output
    assert f"{SYSTEM} epoch 1 " not in output
    assert content(work.path / "resumed") == content(work.path / "models" / SYSTEM)
    assert content(work.path / "resumed.csv") == content(work.path / "models" / f"{SYSTEM}.csv")


def test_training_does_not_resume_with_other_parameters(work):
    kill_after_an_epoch(work, "other")
    change_params(work.path / "params.yaml", work.path / "slower.yaml", {"train.lr": 0.001})
    output = work.stage("train", *words("train", "other"), "--params", "slower.yaml")
    assert "going on" not in output
    assert f"{SYSTEM} epoch 1 " in output


def test_changed_clip_is_the_only_one_recomputed(work, tmp_path):
    """Values of the existing file are reused by content: samples matter, names do not."""
    shutil.copytree(work.path / "raw" / "audio", tmp_path / "audio")
    out = tmp_path / "logmel.h5"
    extract = ("extract", "logmel", tmp_path / "audio", "none")
    work.stage(*extract, out)
    train = tmp_path / "audio" / "train"
    first, second = sorted(train.iterdir())[:2]
    first.rename(train / "renamed.wav")
    samples = bytearray(second.read_bytes())
    samples[-2:] = b"\1\0"
    second.write_bytes(samples)
    output = work.stage(*extract, out)
    assert "7 of 8 clips are done" in output
    work.stage(*extract, tmp_path / "afresh.h5")
    assert out.read_bytes() == (tmp_path / "afresh.h5").read_bytes()
    change_params(
        work.path / "params.yaml", tmp_path / "params.yaml", {"spectrograms.logmel.hop_length": 256}
    )
    output = work.stage(*extract, out, "--params", tmp_path / "params.yaml")
    assert "are done" not in output


def test_good_clips_are_kept_when_one_is_bad(work, tmp_path):
    shutil.copytree(work.path / "raw" / "audio", tmp_path / "audio")
    bad = sorted((tmp_path / "audio" / "train").iterdir())[3]
    whole = bad.read_bytes()
    bad.write_bytes(whole[:44])
    extract = ("extract", "logmel", tmp_path / "audio", "none", tmp_path / "l.h5")
    output = work.stage(*extract, code=1)
    assert f"{bad}: holds no samples" in output
    bad.write_bytes(whole)
    assert "7 of 8 clips are done" in work.stage(*extract)
    assert (tmp_path / "l.h5").read_bytes() == (work.path / "features" / "logmel.h5").read_bytes()


@pytest.mark.parametrize("stage", stages("extract logmel", of=("extract logmel", "extract vggish")))
def test_the_number_of_workers_does_not_matter(work, tmp_path, stage):
    alone = Project(work.path)
    alone.environment = work.environment | {"LOKY_MAX_CPU_COUNT": "1"}
    alone.stage(script(stage), *words(stage, tmp_path / "one.h5"))
    alone.environment |= {"LOKY_MAX_CPU_COUNT": "3"}
    alone.stage(script(stage), *words(stage, tmp_path / "three.h5"))
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "three.h5").read_bytes()


# Sizes of the disk in kB: full at the start, or towards the end.
SIZES = {
    "download": (64, 4_000),
    "augment": (64, 1_000),
    "extract logmel": (300, 2_000),
    "extract vggish": (64,),
    "train": (64, 6_000),
    "evaluate": (4,),
}


@pytest.mark.parametrize("stage", stages("extract logmel"))
def test_full_disk_is_named_and_a_larger_one_suffices(work, disk, stage):
    for size in SIZES[stage]:
        folder = disk(f"size={size}k")
        output = work.stage(script(stage), *words(stage, folder / "out"), code=1)
        assert "no space is left on the disk" in output
        assert str(folder) in output
        assert "Traceback" not in output
        assert not (folder / "out").exists()
    disk("size=200m")
    work.stage(script(stage), *words(stage, folder / "out"))
    if stage in MADE:
        assert content(folder / "out") == content(work.path / MADE[stage])
    assert not leftovers(folder)


@pytest.mark.parametrize("stage", stages("download", "extract logmel", "train"))
def test_read_only_folder_is_named(work, disk, stage):
    folder = disk("size=1m")
    disk("ro")
    output = work.stage(script(stage), *words(stage, folder / "out"), code=1)
    assert f"{folder}/" in output
    assert "ead-only file system" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("stage", stages("extract logmel", of=("download", "extract logmel", "train")))
def test_output_folder_deleted_during_a_run_gives_one_error_or_complete_output(work, stage):
    count = changes(work, stage, "gone/out")
    shutil.rmtree(work.path / "gone")
    for number in (2, count // 2, count):
        code, output = work.run_with_fault(
            "remove", number, "gone/out", script(stage), *words(stage, "gone/out")
        )
        if code:  # or what was deleted has been made again
            assert code == 1, output
            assert "error: " in output
            assert "gone" in output
        assert "Traceback" not in output
        work.stage(script(stage), *words(stage, "gone/out"))
        assert (work.path / "gone" / "out").exists()
        shutil.rmtree(work.path / "gone")


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_feature_file_is_named_and_recomputed(work, tmp_path, damage):
    whole = (work.path / "features" / "logmel.h5").read_bytes()
    path = tmp_path / "logmel.h5"
    shutil.copy(work.path / "features" / "vggish.h5", tmp_path)
    damaged = bytearray(whole[: len(whole) // 2] if damage == "truncated" else whole)
    with h5py.File(work.path / "features" / "logmel.h5") as file:
        damaged[file["logmel"].id.get_chunk_info(1).byte_offset + 1000] ^= 1
    path.write_bytes(damaged)
    train = words("train", tmp_path / "out")
    train[1] = tmp_path
    output = work.stage("train", *train, code=1)
    assert f"{path}: damaged" in output
    assert "run the stage extract@logmel or embed@logmel again" in output
    output = work.stage("extract", *words("extract logmel", path))
    assert "of 8 clips are done" in output or damage == "truncated"
    assert path.read_bytes() == whole


@pytest.mark.parametrize("stage", stages("train", of=("download", "extract logmel", "train")))
def test_two_concurrent_runs_of_a_stage_give_one_complete_output(work, stage):
    command = ("python", "-m", f"stages.{script(stage)}", *words(stage, "twice"))
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


def test_second_dvc_waits_or_reports_the_lock(tmp_path):
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


KILLED_BY_DVC = ("download", "extract@logmel", "embed@vggish", f"train@{SYSTEM}", "evaluate@baseline_fine")


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


WRITES = """
import sys
from pathlib import Path
from ust.util.files import atomic_write
with atomic_write(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_atomic_write_removes_files_of_killed_processes(tmp_path):
    from ust.util.files import atomic_write

    path = tmp_path / "a.csv"
    killed, running = (
        subprocess.Popen([sys.executable, "-c", WRITES, path], cwd=ROOT, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )  # fmt: skip
    for process in (killed, running):
        assert process.stdout.readline() == "ready\n"
    killed.kill()
    killed.wait()
    (tmp_path / ".a.csv.999999999.partial").write_text("of nobody")
    (tmp_path / ".a.csv.mine.partial").write_text("of somebody else")
    with atomic_write(path) as partial:
        partial.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {
        "a.csv", f".a.csv.{running.pid}.partial", ".a.csv.mine.partial"
    }  # fmt: skip
    assert path.read_text() == "whole"
    running.communicate()
    assert path.read_text() == "half"
