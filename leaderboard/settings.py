"""Write leaderboard/params.yaml: params.yaml, what overlay.yaml sets, and what the command line does.

A row that is set to null is left out.

python -m leaderboard.settings data.source=local data.path=../urban mn.weights=mn04_as
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ust.cli.console import log_done, parse_args, run_command

HERE = Path(__file__).parent
KEYS = ("recipe", "architecture", "features", "labels")
TABLES = ("features", "labels", "relabel", "systems", "ensembles", "checkpoints")
# By the overlay's, not added to.
REPLACED = ("relabel", "systems", "hierarchies", "ensembles", "checkpoints", "features")


def merge(content: dict[str, Any], more: dict[str, Any]) -> None:
    """Put mappings into mappings, and all else in the place of what was there."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            merge(content[key], value)
        else:
            content[key] = value


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file, checked."""
    parser = argparse.ArgumentParser(prog="python -m leaderboard.settings", description=__doc__)
    parser.add_argument("settings", nargs="*", help="NAME.OF.PARAMETER=VALUE")
    parser.add_argument("--out", type=Path, default=HERE / "params.yaml")
    args = parse_args(parser, argv=argv)

    import io

    from ruamel.yaml import YAML

    from ust.cli.parameters import check_params_content
    from ust.util.documents import read_yaml
    from ust.util.errors import UserError
    from ust.util.files import atomic_write

    content = read_yaml(HERE.parent / "params.yaml") | {name: {} for name in REPLACED}
    merge(content, read_yaml(HERE / "overlay.yaml"))
    yaml = YAML(typ="safe")
    for setting in args.settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"{setting}: should be NAME.OF.PARAMETER=VALUE")
        for part in reversed(name.split(".")):
            value = {part: yaml.load(io.StringIO(value)) if isinstance(value, str) else value}
        merge(content, value)
    for table in TABLES:
        content[table] = {name: row for name, row in content[table].items() if row is not None}
    board = content["leaderboard"]
    # DVC repeats a stage for each seed of a list, not of a table.
    board["pairs"] = [{"name": name, **row} for name, row in content["ensembles"].items()]
    check_params_content(args.out, content)
    for name in board["systems"]:
        if name not in content["systems"]:
            there = ", ".join(content["systems"])
            raise UserError(f"leaderboard.systems: {name!r} should be one of systems: {there}")
    # Each training with the keys of its row that its dependencies go by.
    board["runs"] = {
        f"{name}-{seed}": {"system": name, "seed": seed}
        | {key: content["systems"][name][key] for key in KEYS}
        for name in board["systems"]
        for seed in board["seeds"]
    }
    with atomic_write(args.out) as partial:
        yaml.default_flow_style = False
        yaml.representer.ignore_aliases = lambda _: True  # which read_yaml refuses
        yaml.dump(content, partial)
    count = len(board["systems"]) + len(board["pairs"])
    log_done("%s: %d systems with %d seeds", args.out, count, len(board["seeds"]))


if __name__ == "__main__":
    run_command(main)
