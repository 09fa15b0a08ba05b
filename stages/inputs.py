"""Say which features each system takes, and each label rule that listens, and stand for what is in them.

A stage of DVC cannot depend on a list of files that differs from system to system. So each of these stages
depends on a file of its own instead, which changes when one of its features does and only then.
"""

import argparse
from pathlib import Path

from ust.cli.console import log_done, parse_args, run_command


def main() -> None:
    """Write labels/RULE.json, train/SYSTEM.json and predict/CHECKPOINT.json: digests by feature."""
    parser = argparse.ArgumentParser(prog="python -m stages.inputs", description=__doc__)
    parser.add_argument("index", type=Path, help="JSON of the stage code")
    parser.add_argument("features", type=Path, help="folder of the stages extract")
    parser.add_argument("out", type=Path, help="folder to write")
    args = parse_args(parser, replaces=["out"])

    from ust.features.store import open_features
    from ust.util.documents import read_json, write_json
    from ust.util.folders import atomic_folder

    index = read_json(args.index, made_by="code")
    labels, systems, digests = index["labels"], index["systems"], {}
    for feature in sorted({name for features in (labels | systems).values() for name in features}):
        with open_features(args.features / f"{feature}.h5", feature) as file:
            digests[feature] = file.digest()
    of_labels, of_system = (
        {name: {each: digests[each] for each in features} for name, features in rows.items()}
        for rows in (labels, systems)
    )
    with atomic_folder(args.out, by="inputs", force=args.force) as folder:
        for name, found in of_labels.items():
            write_json(folder / "labels" / f"{name}.json", found)
        for name, found in of_system.items():
            write_json(folder / "train" / f"{name}.json", found)
        for name, row in index["checkpoints"].items():
            found = {each: digests[each] for each in row["features"]}
            write_json(folder / "predict" / f"{name}.json", found)
    log_done("%s: %d systems, %d features", args.out, len(systems), len(digests))


if __name__ == "__main__":
    run_command(main)
