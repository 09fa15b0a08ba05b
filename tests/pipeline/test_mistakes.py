"""User mistakes give one error with a remedy and change no file."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from commands import run_stage
from conftest import RATE
from project import change_params

RAW = "data/raw/annotations.csv data/raw/dcase-ust-taxonomy.yaml"
TRAIN = "data/features data/labels data/raw/dcase-ust-taxonomy.yaml"
PREDICTIONS, LABELS = "data/predictions/cnn.csv", "data/labels/majority.csv"
OUT = "{tmp}/m {tmp}/c.csv"
EVALUATE = f"{RAW} {{tmp}}/m.json"

# Command, expected part of the message, and expected remedy.
MISTAKES = {
    # the wrong folder
    "a folder of one's own": ("augment data/raw/audio {tmp}/precious", "precious.txt", "--force"),
    "another folder of one's own": ("download {tmp}/precious", "precious.txt", "--force"),
    "one's own folder to export to": ("export {tmp}/precious", "precious.txt", "--force"),
    "all models": (f"train cnn {TRAIN} models {{tmp}}/c.csv", "models: train did not write", "--force"),
    "all data": (
        f"submit cnn {PREDICTIONS} metrics/details/cnn.json {RAW} data {{tmp}}/m.json",
        "lies in it",
        "another",
    ),
    "another stage's folder": ("download data/augmented", "download did not write", "--force"),
    "the working folder": ("download .", "holds the working folder", "name another"),
    "the folder above": ("download ..", "holds the working folder", "name another"),
    "everything": ("download / --force", "holds the working folder", "name another"),
    "the home folder": ("download {home} --force", "holds the home folder", "name another"),
    "no folder of splits": (
        "augment data {tmp}/out",
        "no audio files in folders of splits",
        "the stage download",
    ),
    "a folder for a file": (f"evaluate {PREDICTIONS} {RAW} {{tmp}}", "is a folder", "path of a file"),
    "a file for a folder": ("augment data/raw/audio {tmp}/noise.wav", "is a file", "should be a folder"),
    "several checkpoints": (
        f"predict cnn models data/features {RAW} {{tmp}}/p.csv --params {{tmp}}/several.yaml",
        "several checkpoints",
        "models/cnn_vggish/coarse",
    ),
    "a folder of features": (
        f"train cnn data {TRAIN.split(' ', 1)[1]} {OUT}",
        "logmel.h5: no such file",
        "extract@logmel",
    ),
    "no recordings": ("tag {tmp}/nothing", "no recordings in this folder", "{tmp}/nothing"),
    # the wrong file
    "annotations as predictions": (
        f"evaluate data/raw/annotations.csv {EVALUATE}",
        "these are annotations",
        "should be predictions",
    ),
    "labels as predictions": (
        f"evaluate {LABELS} {EVALUATE}",
        "these are labels",
        "should be predictions",
    ),
    "sound as predictions": (f"evaluate {{tmp}}/noise.wav {EVALUATE}", "not a readable CSV", "noise.wav"),
    "predictions of another split": (
        f"evaluate data/predictions/train/cnn.csv {EVALUATE}",
        "6 clip(s) of the split are missing",
        "10 clip(s) are not the split's",
    ),
    "annotations and taxonomy swapped": (
        f"evaluate {PREDICTIONS} {' '.join(RAW.split()[::-1])} {{tmp}}/m.json",
        "annotations.csv",
        "should be a mapping",
    ),
    "annotations as labels": (
        f"train cnn data/features {{tmp}}/wrong data/raw/dcase-ust-taxonomy.yaml {OUT}",
        "the columns should be",
        "split, audio_filename",
    ),
    "features swapped": (
        f"train cnn {{tmp}}/wrong {TRAIN.split(' ', 1)[1]} {OUT}",
        "logmel.h5: not a file of the stage extract@logmel",
        "has no logmel",
    ),
    "a table for features": (
        f"predict baseline_fine models {{tmp}}/wrong {RAW} {{tmp}}/p.csv",
        "not an HDF5 file",
        "extract@vggish",
    ),
    "a table for metrics": (
        "table {tmp}/wrong metrics/curves metrics/training {tmp}/t {tmp}/u {tmp}/plots",
        "not a file of the stage evaluate",
        "name another",
    ),
    "parameters that are none": (
        f"download {{tmp}}/out --params {LABELS}",
        "majority.csv",
        "should be a mapping",
    ),
    "unusable audio": ("extract logmel {tmp}/bad {tmp}/none {tmp}/l.h5", "2 of 2 audio files cannot"),
    "text for sound": ("tag {tmp}/precious/precious.txt", "cannot be decoded as audio", "precious.txt"),
    # the wrong name
    "no such predictions": (
        f"evaluate data/predictions/cn.csv {EVALUATE}",
        "cn.csv: no such file",
        "the stage predict makes it",
    ),
    "no such system to train": (f"train cnn_vgish {TRAIN} {OUT}", "no system 'cnn_vgish'", "cnn_vggish"),
    "no such system to tag with": (
        "tag {tmp}/noise.wav --system cnn_vggish_corse",
        "no trained system",
        "did you mean cnn_vggish_coarse?",
    ),
    "no such recording": ("tag {tmp}/nothing.wav", "nothing.wav", "no such file"),
    "no such split": (f"evaluate {PREDICTIONS} {EVALUATE} --split tset", "invalid choice: 'tset'", "--help"),
    "a split without truth": (
        f"evaluate {PREDICTIONS} {EVALUATE} --split test",
        "no ground-truth rows",
        "test",
    ),
    "no such option": ("download {tmp}/out --sorce synthetic", "unrecognized arguments: --sorce", "--help"),
    "an argument left out": ("evaluate {tmp}/a.csv", "required: annotations, taxonomy, out", "--help"),
    "no such clip": (
        f"describe {RAW.replace(' ', f' {LABELS} ')} data/features {{tmp}}/out --clip a.wav",
        "has no clip 'a.wav'",
        "logmel.h5",
    ),
    "no such annotations": (f"aggregate_labels any {{tmp}}/no.csv {RAW.split()[1]} {{tmp}}/l.csv", "no.csv",
                            "no such file"),
    "no such label rule": (f"aggregate_labels all {RAW} {{tmp}}/l.csv", "no rule 'all'", "majority, any"),
    "no such feature": ("extract mel data/raw/audio {tmp}/none {tmp}/l.h5", "no feature 'mel'"),
    "no such checkpoint": (f"predict cmm models data/features {RAW} {{tmp}}/p.csv", "has no 'cmm'"),
    "no audio": ("augment {tmp}/none {tmp}/out", "the stage download makes them"),
    "no model": (f"predict cnn {{tmp}} data/features {RAW} {{tmp}}/p.csv", "the stage train makes it"),
    "no metrics for the table": ("table {tmp} {tmp} {tmp} {tmp}/t {tmp}/u {tmp}/v",
                                 "the stage evaluate makes it"),
    "no metrics to submit": (f"submit cnn {{tmp}}/no.csv {{tmp}}/no.json {RAW} {{tmp}}/s {{tmp}}/m.json",
                             "the stage evaluate makes it"),
    "an embedding without its network": ("extract vggish data/raw/audio {tmp}/none {tmp}/v.h5",
                                         "give --network, the folder of weights@v"),
    "another folder as network": ("extract vggish data/raw/audio {tmp}/none {tmp}/v.h5 --network {tmp}",
                                  "weights@vggish"),
    "a hierarchy without its root": (f"train hierarchical {TRAIN} {OUT}", "root", "--root"),
    # the wrong content
    "semicolons": (
        f"evaluate {{tmp}}/semicolons.csv {EVALUATE}",
        "separated by semicolons",
        "should be by commas",
    ),
    "tabs": (f"evaluate {{tmp}}/tabs.csv {EVALUATE}", "separated by tabs", "should be by commas"),
    "an empty table": (f"evaluate {{tmp}}/empty.csv {EVALUATE}", "the file is empty", "empty.csv"),
    "an empty recording": ("tag {tmp}/empty.wav", "empty.wav", "the file is empty"),
    "labels without their numbers": (
        f"evaluate {{tmp}}/names.csv {EVALUATE}",
        "there is no label 'small-sounding-engine'",
        "rename the column(s)",
    ),
    "none of the labels": (f"evaluate {{tmp}}/other.csv {EVALUATE}", "none of the labels", "1_engine"),
    "too few bands": (
        "preset predict.batch_size=8 --params {tmp}/bands.yaml",
        "n_mels is 64",
        "at least 108",
    ),
    "too few frames": (
        "preset predict.batch_size=8 --params {tmp}/frames.yaml",
        "give 431 frames",
        "shorter hop",
    ),
    "data that is nowhere": ("download {tmp}/out --params {tmp}/nowhere.yaml", "no such folder", "data.path"),
    "a window too long": ("tag {tmp}/noise.wav --window 20", "window is 20.0", "at most 10"),
    # an input as output
    "an output that is an input": (
        f"evaluate {PREDICTIONS} {RAW} {PREDICTIONS}",
        "as out and as predictions",
        "two different",
    ),
    "a recording as output": (
        "tag {tmp}/noise.wav --out {tmp}/noise.wav",
        "as out and as recordings",
        "two different",
    ),
    "a recording of a folder as output": (
        "tag {tmp}/sounds --format csv --out {tmp}/sounds/a.wav",
        "is one of the recordings",
        "should be a file to write",
    ),
    "an input's folder as output": (
        "augment data/raw/audio data/raw/audio",
        "as out and as audio",
        "two different",
    ),
    "a folder of an input as output": (
        "augment data/raw/audio data/raw --force",
        "audio lies in it",
        "name another",
    ),
    "two outputs at once": (
        f"predict cnn models data/features {RAW} {{tmp}}/l.csv --train {{tmp}}/l.csv",
        "as out and as train",
        "two different",
    ),
    "a system against itself": (f"compare {PREDICTIONS} {PREDICTIONS}", "given twice", "--help"),
}  # fmt: skip


@pytest.fixture(scope="module")
def material(project, tmp_path_factory):
    """A folder with files that users confuse with others."""
    tmp = tmp_path_factory.mktemp("mistakes")
    for folder in ("precious", "nothing", "sounds", "wrong"):
        (tmp / folder).mkdir()
    (tmp / "precious" / "precious.txt").write_text("years of work")
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    for name in ("noise.wav", "sounds/a.wav"):
        sf.write(tmp / name, noise, RATE)
    (tmp / "empty.wav").touch()
    (tmp / "bad" / "train").mkdir(parents=True)
    (tmp / "bad" / "train" / "a.wav").touch()
    (tmp / "bad" / "train" / "b.wav").write_text("no sound")
    (tmp / "empty.csv").touch()
    table = pd.read_csv(project.path / PREDICTIONS)
    table.to_csv(tmp / "semicolons.csv", sep=";", index=False)
    table.to_csv(tmp / "tabs.csv", sep="\t", index=False)
    clips = table[["audio_filename"]]
    clips.join(
        table.drop(columns="audio_filename").rename(columns=lambda name: name.split("_", 1)[1])
    ).to_csv(tmp / "names.csv", index=False)
    clips.assign(loudness=0.5).to_csv(tmp / "other.csv", index=False)
    shutil.copy(project.path / "data/features/vggish.h5", tmp / "wrong" / "logmel.h5")
    shutil.copy(project.path / LABELS, tmp / "wrong" / "vggish.h5")
    shutil.copy(project.path / RAW.split()[0], tmp / "wrong" / "majority.csv")
    shutil.copy(project.path / PREDICTIONS, tmp / "wrong" / "cnn.json")
    local = {"data.source": "local", "data.path": "../nowhere"}
    for name, change in (
        ("bands", {"spectrograms.logmel.n_mels": 64}),
        ("frames", {"spectrograms.logmel.hop_length": 1024}),
        ("nowhere", local),
        ("several", {"checkpoints.cnn.model": "cnn_vggish"}),
    ):
        change_params(project.path / "params.yaml", tmp / f"{name}.yaml", change)
    return tmp


def state(*folders):
    """Return size and modification time of each file in folders."""
    found = {}
    for folder in folders:
        for root, names, files in os.walk(folder):
            names[:] = [name for name in names if name not in ("__pycache__", ".git", "tmp")]
            for name in files + names:
                path = Path(root, name)
                is_file = not path.is_dir()
                found[str(path)] = (path.lstat().st_size, path.lstat().st_mtime_ns) if is_file else None
    return found


@pytest.mark.parametrize("mistake", MISTAKES)
def test_user_mistake_gives_one_error_and_changes_no_file(project, material, monkeypatch, tmp_path, mistake):
    command, *parts = MISTAKES[mistake]
    (tmp_path / "home").mkdir()
    monkeypatch.setitem(project.environment, "HOME", str(tmp_path / "home"))
    filled = command.replace("{tmp}", str(material)).replace("{home}", str(tmp_path / "home"))
    before = state(project.path, material)
    output = project.stage(*filled.split(), code=1)
    assert state(project.path, material) == before
    lines = [line for line in output.splitlines() if line]
    assert len(lines) <= 5, output
    assert "error: " in output
    assert "Traceback" not in output
    for part in parts:
        assert part.replace("{tmp}", str(material)) in output


@pytest.mark.parametrize(
    ("options", "part"), [("size=4k", "no space is left"), ("ro", "ead-only file system")]
)
def test_missing_permissions_are_named(project, disk, options, part):
    folder = disk("size=1m")
    disk(options)
    out = (folder / "out" / "m.json", "--details", folder / "out" / "details.json")
    output = project.stage("evaluate", PREDICTIONS, *RAW.split(), *out, code=1)
    assert part in output
    assert str(folder) in output
    assert "Traceback" not in output
    assert list(folder.iterdir()) in ([], [folder / "out"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--system", "cnn"], "there is no system 'cnn'"),
        (["--system", "mn04_as"], "mn04_as are weights of the network of audioset"),
        (["--system", "cnn", "--params", "{params}"], "there is no system 'cnn'"),
        (["--checkpoint", "noise.wav"], "noise.wav: refused: not a state dict of tensors alone"),
    ],
)
def test_stage_outside_the_project_is_refused(project, tmp_path, material, words, part):
    """The folder has neither parameters nor a pipeline."""
    shutil.copy(material / "noise.wav", tmp_path / "noise.wav")
    words = [word.replace("{params}", str(project.path / "params.yaml")) for word in words]
    code, _, errors = run_stage("tag", ["noise.wav", *words], tmp_path, project.environment)
    assert code == 1
    assert part in errors
    assert len(errors.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["noise.wav"]
