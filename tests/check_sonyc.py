"""Run the baseline and the report's systems on the real SONYC-UST v1 and compare with the published figures.

    python tests/check_sonyc.py [--folder ../check-sonyc] [-S NAME=VALUE ...]

Needs network, 20 GB of disk and, for the report's 300 epochs, a GPU or days: the data set and VGGish are
downloaded, presets/report.txt is set. The clone in the folder is kept, and the same command goes on where it
was ended. Exit code 1 when a figure is further than 0.01 from the published one.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from conftest import ROOT
from project import Project, clone, settings

from ust.scores.tables import COLUMNS, REPORT

TOLERANCE = 0.01
FIGURES = [name for name in COLUMNS if name.endswith("auprc")]
REAL = ("data.source=sonyc-ust-v1", "vggish.weights=audioset")


def compare(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, float, float, bool]]:
    """Of each system and published figure: that, the one here, and whether they are the same."""
    for system, (_, values) in REPORT.items():
        published = dict(zip(COLUMNS, values, strict=True))
        for figure in FIGURES:
            if published[figure] is not None:
                level, name = figure.split("_", 1)
                found = metrics[system][level][name]
                yield system, figure, published[figure], found, abs(found - published[figure]) <= TOLERANCE


def main() -> None:
    """Run, compare, say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "check-sonyc")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    preset = (ROOT / "presets" / "report.txt").read_text().split()
    if (args.folder / ".dvc").is_dir():
        project = Project(args.folder)
    elif args.folder.exists() and any(args.folder.iterdir()):
        sys.exit(f"{args.folder}: is not empty, and no clone of an earlier run; name another with --folder")
    else:
        project = clone(args.folder, settings([*preset, *REAL, *args.changes]))
    targets = [f"evaluate@{system}" for system in REPORT]
    if subprocess.run(["dvc", "repro", *targets], cwd=project.path, env=project.environment).returncode:
        sys.exit(f"{args.folder}: dvc repro has failed; the same command goes on from here")
    right = []
    print("| system | figure | published | here | |", "| --- | --- | --- | --- | --- |", sep="\n")  # noqa: T201
    for system, figure, published, found, same in compare({s: project.metrics(s) for s in REPORT}):
        right.append(same)
        verdict = "reproduced" if same else "not reproduced"
        print(f"| {system} | {figure} | {published:.3f} | {found:.3f} | {verdict} |")  # noqa: T201
    if not all(right):
        sys.exit(f"{len(right) - sum(right)} of {len(right)} figures are not within {TOLERANCE}")


if __name__ == "__main__":
    main()
