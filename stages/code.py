"""Check all of params.yaml, and write what its rows are and what code each stage rests on.

A stage depends on a file of digests of the syntax trees that its script imports: a comment, a docstring, a
module or a row of a table that it does not use change nothing for it.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ust.cli.console import log_done, parse_args, run_command

SCRIPTS = ("augment", "inputs", "describe", "evaluate", "table", "page", "submit")
FEATURES, MODELS, RECIPES = "ust.features.registry", "ust.models.registry", "ust.training.registry"
RULES, SOURCES = "ust.annotations.rules.registry", "ust.datasets.registry"

Rows = dict[str, frozenset[str]]


def members(params: dict[str, Any], name: str) -> list[str]:
    """The rows of systems and hierarchies that one is made of: itself, or of an ensemble its members'."""
    row = params["ensembles"].get(name)
    if row is None:
        return [name]
    return [*members(params, row["first"]), *members(params, row["second"])]


def stages(params: dict[str, Any]) -> Iterator[tuple[str, str, Rows]]:
    """Of each stage its file of digests, its script, and by table the rows that it uses."""
    systems = params["systems"] | params["hierarchies"]

    def architectures(name: str) -> frozenset[str]:
        """Of a system and, if it has a root of another system, of that."""
        row = systems[name]
        root = row["flat"].split("/")[0] if row.get("root") == "flat" else name
        return frozenset({row["architecture"], systems[root]["architecture"] if root in systems else ""})

    for script in SCRIPTS:
        yield script, script, {}
    yield "download", "download", {SOURCES: frozenset({params["data"]["source"]})}
    for name, row in params["labels"].items():
        features = frozenset({row["feature"]} if "feature" in row else ())
        used = {RULES: frozenset({row["rule"]}), FEATURES: features}
        yield f"aggregate_labels/{name}", "aggregate_labels", used
    rules = frozenset(row["rule"] for row in params["label_quality"]["rules"].values())
    yield "label_quality", "label_quality", {RULES: rules}
    for name in params["features"]:
        for script in ("weights", "extract"):
            yield f"{script}/{name}", script, {FEATURES: frozenset({name})}
    for name, row in systems.items():
        recipe = frozenset({row["recipe"]})
        yield f"train/{name}", "train", {MODELS: architectures(name), RECIPES: recipe}
    for name in params["ensembles"]:
        yield f"ensemble/{name}", "ensemble", {}
    for name, row in params["checkpoints"].items():
        system = row["model"].split("/")[0]
        used = frozenset[str]().union(*map(architectures, members(params, system)))
        yield f"predict/{name}", "predict", {MODELS: used}


def index(params: dict[str, Any]) -> dict[str, Any]:
    """What other stages need of all rows: the features that each takes, the system of each checkpoint."""
    systems = params["systems"] | params["hierarchies"]

    def checkpoint(system: str) -> dict[str, Any]:
        """The recipe and the features of a system or an ensemble."""
        rows = [systems[name] for name in members(params, system)]
        return {
            "recipe": "ensemble" if system in params["ensembles"] else rows[0]["recipe"],
            "features": list(dict.fromkeys(feature for row in rows for feature in row["features"])),
        }

    return {
        "labels": {
            name: [row["feature"]] if "feature" in row else [] for name, row in params["labels"].items()
        },
        "systems": {name: row["features"] for name, row in systems.items()},
        "checkpoints": {
            name: checkpoint(row["model"].split("/")[0]) for name, row in params["checkpoints"].items()
        },
    }


def main() -> None:
    """Write index.json and, with a digest for each file, STAGE.json, or STAGE/ROW.json of one repeated."""
    parser = argparse.ArgumentParser(prog="python -m stages.code", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, replaces=["out"])

    from ust.cli.parameters import check_params
    from ust.util.code import code_digests
    from ust.util.documents import write_json
    from ust.util.folders import atomic_folder

    params = check_params(args.params)
    root = Path(__file__).parents[1]
    with atomic_folder(args.out, by="code", force=args.force) as folder:
        found = list(stages(params))
        write_json(folder / "index.json", index(params))
        for place, script, rows in found:
            write_json(folder / f"{place}.json", code_digests(root, f"stages.{script}", rows))
    log_done("%s: %s is in order, %d stages", args.out, args.params, len(found))


if __name__ == "__main__":
    run_command(main)
