"""Print the headline metrics of all experiments in a table with a row for each system.

    dvc exp show --json | python -m stages.experiments

`dvc exp show` has a column for each metric of each system, which does not fit into a terminal. In this table
each commit is followed by its experiments, with the parameters and metrics that differ from the commit's.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ust.cli.console import parse_args, run_command
from ust.util.errors import UserError

LEVELS = ("fine", "coarse")
HEADERS = ("micro AUPRC", "micro F1", "macro AUPRC")
Metrics = dict[str, dict[str, dict[str, float]]]


def main(argv: Sequence[str] | None = None) -> None:
    """Read the JSON from standard input and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parse_args(parser, argv=argv)
    try:
        commits = json.load(sys.stdin)
    except ValueError:
        raise UserError("standard input: is not JSON, should be the output of dvc exp show --json") from None
    sys.stdout.write("\n".join(experiment_lines(commits)) + "\n")


def experiment_lines(commits: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table from the commits of ``dvc exp show --json``."""
    lines = [
        f"{'':28}{'fine':37}coarse",
        f"  {'system':26}{''.join(f'{header:>11} ' for header in HEADERS)} "
        f"{''.join(f'{header:>11} ' for header in HEADERS)}".rstrip(),
    ]
    for commit in commits:
        if commit["rev"] == "workspace" or commit.get("data") is None:
            continue
        params, metrics = _params(commit["data"]), _metrics(commit["data"])
        experiments = list(_experiments(commit))
        changed: set[str] = set()
        blocks = []
        for name, state, data in experiments:
            if data is None:
                blocks.append([f"{name}: {state}"])
                continue
            new_metrics = _metrics(data)
            systems = [system for system, values in new_metrics.items() if values != metrics.get(system)]
            changed |= set(systems)
            changes = "".join(f"  {change}" for change in _changes(params, _params(data)))
            blocks.append([f"{name}:{changes}", *(_row(system, new_metrics[system]) for system in systems)])
        rows = [_row(system, metrics[system]) for system in metrics if system in changed or not experiments]
        lines += ["", f"{commit.get('name') or commit['rev'][:7]} (commit)", *rows]
        for block in blocks:
            lines += ["", *block]
    return lines


def _experiments(commit: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any] | None]]:
    """Yield name, state and data of each experiment; the data is None if it has no result."""
    for experiment in commit.get("experiments") or ():
        last = experiment["revs"][0]
        name = experiment.get("name") or last.get("name") or last["rev"][:7]
        state = (experiment.get("executor") or {}).get("state") or "no result"
        yield name, state, last.get("data")


def _params(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters by dotted name."""

    def flatten(section: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in section.items():
            if isinstance(value, dict):
                yield from flatten(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    files = (content.get("data") or {} for content in (data.get("params") or {}).values())
    return {name: value for content in files for name, value in flatten(content, "")}


def _metrics(data: Mapping[str, Any]) -> Metrics:
    """Return the metrics of each system, by level and name."""
    files = {
        PurePosixPath(path).stem: content.get("data") or {}
        for path, content in (data.get("metrics") or {}).items()
    }
    return {
        name: metrics
        for name, metrics in files.items()
        if set(metrics) & set(LEVELS) and name != "submission"
    }


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield ``NAME=VALUE`` for each parameter that differs from the commit's."""
    for name in [*after, *(name for name in before if name not in after)]:
        if before.get(name) != after.get(name):
            yield (
                f"{name}={json.dumps(after[name], ensure_ascii=False)}"
                if name in after
                else f"{name} removed"
            )


def _row(system: str, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Return the line of a system; a level that it does not predict is empty."""
    from ust.evaluation.metrics import HEADLINES

    cells = (
        "".join(f"{metrics[level][name]:11.3f} " if level in metrics else f"{'–':>11} " for name in HEADLINES)
        for level in LEVELS
    )
    return f"  {system:26}{' '.join(cells)}".rstrip()


if __name__ == "__main__":
    run_command(main)
