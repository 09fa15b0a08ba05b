"""Write a table of all systems' metrics, as the report's Tables 3 and 4, and a CSV file for each plot."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages import run_stage
from ust.cli.console import log_done, parse_args


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table as Markdown and CSV, and the tables of the plots with a column for the system."""
    parser = argparse.ArgumentParser(prog="python -m stages.table", description=__doc__)
    parser.add_argument("metrics", type=Path, help="folder of the CHECKPOINT.json with details")
    parser.add_argument("curves", type=Path, help="folder of CHECKPOINT/")
    parser.add_argument("history", type=Path, help="folder of SYSTEM.csv")
    parser.add_argument("markdown", type=Path, help="file to write")
    parser.add_argument("csv", type=Path, help="file to write")
    parser.add_argument("plots", type=Path, help="folder to write")
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="file with the names of all systems"
    )
    args = parse_args(parser, writes=["markdown", "csv"], replaces=["plots"], argv=argv)

    from ust.reports.tables import (
        combine_curves,
        combine_histories,
        split_by_metric,
        table_frame,
        table_markdown,
        table_row,
    )
    from ust.util.documents import read_json, read_yaml
    from ust.util.files import write_text
    from ust.util.folders import atomic_folder
    from ust.util.tables import write_csv

    params = read_yaml(args.params)
    systems = params["systems"] | params["hierarchies"] | params["pretrained"]
    names = list(params["checkpoints"])
    metrics = {name: read_json(args.metrics / f"{name}.json", made_by="evaluate") for name in names}
    trainers = {
        name: systems.get(row["model"].split("/")[0], {}).get("trainer", "ensemble")
        for name, row in params["checkpoints"].items()
    }
    rows = {name: table_row(name, metrics[name]) for name in names}
    baselines = [rows[name] for name in names if trainers[name] == "train_baseline"]
    others = [rows[name] for name in names if trainers[name] != "train_baseline"]

    metadata = metrics[names[0]]["provenance"]
    text = f"{metadata['clips']} {metadata['split']} clips of the data source '{metadata.get('data_source')}'"
    write_text(args.markdown, table_markdown(others, baselines, text))
    write_csv(args.csv, table_frame(others, baselines), float_format="%.6f")
    with atomic_folder(args.plots, by="table", force=args.force) as folder:
        history = combine_histories([args.history / f"{name}.csv" for name in systems])
        tables = combine_curves(args.curves, names)
        tables |= {f"training_{name}": table for name, table in split_by_metric(history).items()}
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", table, float_format="%.6g")
    log_done("%s, %s and %s: %d systems", args.markdown, args.csv, args.plots, len(names))


if __name__ == "__main__":
    run_stage(main)
