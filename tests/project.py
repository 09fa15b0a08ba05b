"""Clones of the project with a tiny city."""

import fcntl
import filecmp
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from commands import run_dvc, run_python, run_stage, run_ust
from conftest import ROOT
from fault_injection import inject_fault
from ruamel.yaml import YAML

TINY = {
    "compute.threads": 1,  # several tests run at a time
    "evaluate.bootstrap": 20,
    "label_quality.bootstrap": 20,
    # The other rules take ten seconds; tests/evaluation/test_label_quality.py runs them.
    "label_quality.rules": {"majority": {"rule": "majority"}, "pooled": {"rule": "pooled", "iterations": 4}},
    "data.source": "synthetic",
    "data.synthetic.train": 10,
    "data.synthetic.validate": 6,
    "train.max_epochs": 2,
    "train.batch_size": 4,
    **{f"systems.{name}.max_epochs": 1 for name in ("cnn", "cnn_vggish_29", "cnn_vggish_8")},
    "hierarchies.hierarchical.max_epochs": 1,
    "hierarchies.hierarchical_negatives.max_epochs": 1,
    "train_baseline.max_epochs": 3,
    "augment.noise.proportion": 0.1,
}


class Project:
    """A clone of the project with a tiny city, and commands in it."""

    def __init__(self, path: Path):
        self.path = path
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC", "GIT"))}
        binaries = str(Path(sys.executable).parent)
        self.environment = environment | {
            "PATH": binaries + os.pathsep + environment["PATH"],
            "CI": "true",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **{
                f"GIT_{who}_{what}": "test@localhost"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }

    def run(self, *words, code=0):
        done = subprocess.run(
            words,
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def kill(self, *words, after):
        """Start a command and kill its process group after some seconds; return whether it still ran."""
        with subprocess.Popen(
            words,
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as running:
            try:
                running.wait(after)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                return True
        return False

    def run_with_fault(self, action, number, part, stage, *words):
        """Run a stage with an injected fault; return exit code and output. A kill needs a process."""
        if action != "kill":
            with inject_fault(action, number, part):
                code, out, err = run_stage(stage, words, self.path, self.environment)
            return code, out + err
        command = (
            sys.executable,
            ROOT / "tests" / "fault_injection.py",
            action,
            str(number),
            part,
            f"stages.{stage}",
        )
        done = subprocess.run(
            [*command, *map(str, words)],
            cwd=self.path,
            env=self.environment | {"PYTHONPATH": str(self.path)},
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def changes(self, part, stage, *words):
        """Return how often a stage changes a file whose path contains a part."""
        with inject_fault("count", 0, part) as seen:
            self.stage(stage, *words)
        return len(seen)

    def dvc(self, *words, code=0):
        """Run DVC and its stages in this process, or as a process where the clone's source was edited."""
        if words[0] == "queue" or "--json" in words or not self.has_this_source():
            return self.run("dvc", *words, code=code)
        return self._checked(run_dvc(words, self.path, self.environment), f"dvc {words}", code)

    def stage(self, name, *words, code=0):
        """Run a stage in this process, or as a process where the clone's source was edited."""
        if not self.has_this_source():
            return self.run("python", "-m", f"stages.{name}", *map(str, words), code=code)
        return self._checked(run_stage(name, words, self.path, self.environment), f"stages.{name}", code)

    def ust(self, *words, code=0):
        """Run a command of the program `ust` in this process."""
        return self._checked(run_ust(words, self.path, self.environment), "ust", code)

    def python(self, source):
        """Run a program in this process."""
        return self._checked(run_python(source, self.path, self.environment), source, 0)

    def shell(self, command):
        """Run a command line: stages and `ust` in this process where the shell has nothing else to do."""
        words = [] if set(command) & set("|&;<>$`*?~#\n") else shlex.split(command)
        if words[:2] == ["python", "-m"] and words[2].startswith("stages."):
            return self.stage(words[2].removeprefix("stages."), *words[3:])
        if words[:1] == ["ust"]:
            return self.ust(*words[1:])
        return self.run("bash", "-euo", "pipefail", "-c", command)

    def has_this_source(self):
        """Return whether the folder has the source that the tests import, by links or as copies."""
        files = source_files(ROOT)
        return self.path == ROOT or (
            source_files(self.path) == files
            and all(filecmp.cmp(self.path / file, ROOT / file) for file in files)
        )

    @staticmethod
    def _checked(done, name, code):
        found, out, err = done
        assert found == code, f"{name}\n{out}\n{err}"
        return out + err

    def outs(self, target):
        """Return the outputs of a stage."""
        lock = YAML(typ="safe").load(self.path / "dvc.lock")
        return [out["path"] for out in lock["stages"][target]["outs"]]

    def metrics(self, system="cnn_vggish_coarse"):
        return json.loads((self.path / f"metrics/{system}.json").read_text())

    def details(self, system="cnn_vggish_coarse"):
        return json.loads((self.path / f"metrics/details/{system}.json").read_text())


def source_files(root):
    """Return the source files of a clone, relative to it."""
    return {path.relative_to(root) for folder in ("stages", "ust") for path in (root / folder).rglob("*.py")}


def change_params(source, target, changes):
    """Write a parameter file with some values changed."""
    yaml = YAML()
    params = yaml.load(source)
    for name, value in changes.items():
        section = params
        *groups, key = name.split(".")
        for group in groups:
            section = section[group]
        section[key] = value
    yaml.dump(params, target)


def settings(words):
    """Return parameters given as for `dvc exp run` (-S NAME=VALUE) by name."""
    pairs = (word.split("=", 1) for word in words if word != "-S")
    return {name: YAML(typ="safe").load(value) for name, value in pairs}


def clone(folder: Path, changes: dict) -> Project:
    """Create a clone of the working tree without outputs, with some parameters changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("metrics/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    change_params(folder / "params.yaml", folder / "params.yaml", changes)
    project = Project(folder)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "clone")
    return project


def finished(base: Path, folder: Path) -> Project:
    """A copy of a clone in which `dvc repro` has run and everything is committed; it is run once for all.

    Parameters
    ----------
    base : Path
        A folder that all processes of the test session share.
    folder : Path
        Where the copy goes.
    """
    original = base / "finished"
    with (base / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "finished.log").exists():
            shutil.rmtree(original, ignore_errors=True)
            project = clone(original, TINY)
            output = project.dvc("repro")
            project.run("git", "add", "-A")
            project.run("git", "commit", "-qm", "run")
            (base / "finished.log").write_text(output)
    shutil.copytree(original, folder, symlinks=True)
    project = Project(folder)
    project.first_output = (base / "finished.log").read_text()
    return project


def ran(output):
    """Return the stages that DVC's output lists as run."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}
