"""Run the baseline and the report's systems on the real SONYC-UST v1 and compare with the published figures.

    python tests/check_sonyc.py [--folder ../check-sonyc] [--systems NAME ...] [-S NAME=VALUE ...]

Needs network, 20 GB of disk and, for the report's 300 epochs, a GPU or days: the data set and VGGish are
downloaded and presets/report.yaml is applied. The clone in the folder is kept, and the same command goes on
where it was ended. The published figures rest on version 0.1 of the data set with its coarse labels as
published, so that this is what runs; with another release or data.coarse (-S) the figures are printed and not
compared. Exit code 1 when a figure is further than 0.01 from the published one, or none could be compared.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conftest import ROOT
from project import Project, clone

from ust.reports.tables import COLUMNS, REPORT, REPORT_DATA

TOLERANCE = 0.01
METRICS = [name for name in COLUMNS if name.endswith("auprc")]
REAL = (
    f"data.source={REPORT_DATA['data_source']}",
    f"data.release={REPORT_DATA['data_release']}",
    f"data.coarse={REPORT_DATA['coarse']}",
    "vggish.weights=audioset",
)


def compare(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, float, float, str]]:
    """Yield system, figure, published value, own value and verdict of each published figure.

    A figure is compared only if it is of the data that the published one rests on.
    """
    for system in metrics:
        published = dict(zip(COLUMNS, REPORT[system][1], strict=True))
        provenance = metrics[system]["provenance"]
        same_data = all(provenance.get(key) == value for key, value in REPORT_DATA.items())
        for metric in METRICS:
            if published[metric] is not None:
                level, name = metric.split("_", 1)
                found = metrics[system][level][name]
                verdict = "reproduced" if abs(found - published[metric]) <= TOLERANCE else "not reproduced"
                yield system, metric, published[metric], found, verdict if same_data else "not compared"


def main(words: Sequence[str] | None = None) -> None:
    """Run the systems, print a table of published figures and ours, and exit with 1 if they differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "check-sonyc")
    parser.add_argument("--systems", nargs="+", choices=list(REPORT), default=list(REPORT), metavar="NAME")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args(words)
    if (args.folder / ".dvc").is_dir():
        project = Project(args.folder)
    elif args.folder.exists() and any(args.folder.iterdir()):
        sys.exit(f"{args.folder}: is not empty, and no clone of an earlier run; name another with --folder")
    else:
        project = clone(args.folder, {})
        project.stage("preset", "report", *REAL, *args.changes)
    targets = [f"evaluate@{system}" for system in args.systems]
    if subprocess.run(["dvc", "repro", *targets], cwd=project.path, env=project.environment).returncode:
        sys.exit(f"{args.folder}: dvc repro has failed; the same command goes on from here")
    metrics = {system: project.details(system) for system in args.systems}
    verdicts = []
    print("| system | figure | published | here | |", "| --- | --- | --- | --- | --- |", sep="\n")  # noqa: T201
    for system, metric, published, found, verdict in compare(metrics):
        verdicts.append(verdict)
        print(f"| {system} | {metric} | {published:.3f} | {found:.3f} | {verdict} |")  # noqa: T201
    if "not compared" in verdicts:
        of_report = ", ".join(f"{key} {value}" for key, value in REPORT_DATA.items())
        provenance = metrics[args.systems[0]]["provenance"]
        here = ", ".join(f"{key} {provenance.get(key)}" for key in REPORT_DATA)
        sys.exit(f"the published figures are of {of_report}; these are of {here}")
    if wrong := verdicts.count("not reproduced"):
        sys.exit(f"{wrong} of {len(verdicts)} figures are not within {TOLERANCE}")


if __name__ == "__main__":
    main()
