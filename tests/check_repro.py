"""Run the pipeline in two fresh clones and compare the outputs byte by byte.

    python tests/check_repro.py [-S NAME=VALUE ...]

Exit code 1 and the name of the first output that differs when the two runs do not agree.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from project import Project, clone, settings
from ruamel.yaml import YAML


def outputs(project: Project) -> dict[str, str]:
    """Return the MD5 of every output, by stage and path, in pipeline order."""
    stages = YAML(typ="safe").load(project.path / "dvc.lock")["stages"]
    return {
        f"{out['path']} of the stage {name}": out["md5"]
        for name, stage in stages.items()
        for out in stage.get("outs", [])
    }


def first_difference(first: Project, second: Project) -> str | None:
    """Return the first output that differs, in pipeline order; None if all are equal."""
    one, other = outputs(first), outputs(second)
    for name in one | other:
        if one.get(name) != other.get(name):
            return name
    same = (first.path / "dvc.lock").read_bytes() == (second.path / "dvc.lock").read_bytes()
    return None if same else "dvc.lock itself, though it names the same outputs"


def main() -> None:
    """Run the pipeline twice and report the first difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    changes = settings(args.changes)
    with tempfile.TemporaryDirectory() as folder:
        # Clone both first: the source may be edited during the first run.
        runs = [clone(Path(folder, name), changes) for name in ("first", "second")]
        for project in runs:
            print(f"{project.path.name} clone: dvc repro", flush=True)  # noqa: T201
            project.run("dvc", "repro")
            project.run("git", "add", "-A")
            project.run("git", "commit", "-qm", "run")
            assert "up to date" in project.dvc("repro")
            assert project.run("git", "status", "--porcelain") == ""
        different = first_difference(*runs)
        if different:
            sys.exit(f"the runs differ, first in {different}")
        count = len(outputs(runs[0]))
        print(f"both runs wrote the same {count} outputs and the same dvc.lock, byte for byte")  # noqa: T201


if __name__ == "__main__":
    main()
