"""Set the figures of all systems side by side: the report's Tables 3 and 4, and a CSV for each plot."""

import argparse
from pathlib import Path

from ust.commands.console import done, parse, run


def main() -> None:
    """Write table.md, table.csv, and the plots' tables with a column that names the system."""
    parser = argparse.ArgumentParser(prog="python -m stages.table", description=__doc__)
    parser.add_argument("index", type=Path, help="JSON of the stage code")
    parser.add_argument("metrics", type=Path, help="folder of the CHECKPOINT.json with details")
    parser.add_argument("curves", type=Path, help="folder of CHECKPOINT/")
    parser.add_argument("history", type=Path, help="folder of SYSTEM.csv")
    parser.add_argument("markdown", type=Path, help="file to write")
    parser.add_argument("csv", type=Path, help="file to write")
    parser.add_argument("plots", type=Path, help="folder to write")
    args = parse(parser, writes=["markdown", "csv"], replaces=["plots"])

    from ust.files.atomic import replacing
    from ust.files.documents import read_json
    from ust.files.folders import replacing_folder
    from ust.scores.side_by_side import by_figure, histories, side_by_side
    from ust.scores.tables import frame, markdown, row

    index = read_json(args.index, made_by="code")
    names = list(index["checkpoints"])
    metrics = {name: read_json(args.metrics / f"{name}.json", made_by="evaluate") for name in names}
    recipes = {name: row["recipe"] for name, row in index["checkpoints"].items()}
    rows = {name: row(name, found) for name, found in metrics.items()}
    baselines = [rows[name] for name in names if recipes[name] == "train_baseline"]
    others = [rows[name] for name in names if recipes[name] != "train_baseline"]

    about = metrics[names[0]]["rests_on"]
    text = f"{about['clips']} {about['split']} clips of the data source '{about.get('data_source')}'"
    with replacing(args.markdown) as partial:
        partial.write_text(markdown(others, baselines, text), "utf-8")
    with replacing(args.csv) as partial:
        frame(others, baselines).to_csv(partial, index=False, float_format="%.6f", lineterminator="\n")
    with replacing_folder(args.plots, by="table", force=args.force) as folder:
        history = histories([args.history / f"{name}.csv" for name in index["systems"]])
        tables = side_by_side(args.curves, metrics)
        tables |= {f"training_{name}": table for name, table in by_figure(history).items()}
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
    done("%s, %s and %s: %d systems", args.markdown, args.csv, args.plots, len(names))


if __name__ == "__main__":
    run(main)
