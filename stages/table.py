"""Set the metrics of all systems as the report's Tables 3 and 4, in Markdown and CSV."""

import argparse
from pathlib import Path

from ust.console import done, parse, run
from ust.files import read_json, replacing
from ust.tables import Row, frame, markdown, row


def read(paths: list[Path]) -> list[Row]:
    """The rows of metrics files, named after the systems."""
    return [row(path.stem, read_json(path, made_by="evaluate")) for path in paths]


def main() -> None:
    """Write both tables to one file each."""
    parser = argparse.ArgumentParser(prog="python -m stages.table", description=__doc__)
    parser.add_argument("markdown", type=Path, help="file to write")
    parser.add_argument("csv", type=Path, help="file to write")
    parser.add_argument(
        "--systems", type=Path, nargs="+", required=True, help="metrics of the stage evaluate"
    )
    parser.add_argument("--baselines", type=Path, nargs="+", required=True, help="the same, for Table 4")
    args = parse(parser, writes=["markdown", "csv"])
    systems, baselines = read(args.systems), read(args.baselines)

    about = read_json(args.systems[0], made_by="evaluate")["rests_on"]
    text = f"{about['clips']} {about['split']} clips of the data source '{about.get('data_source')}'"
    with replacing(args.markdown) as partial:
        partial.write_text(markdown(systems, baselines, text), "utf-8")
    with replacing(args.csv) as partial:
        frame(systems, baselines).to_csv(partial, index=False, float_format="%.6f", lineterminator="\n")
    done("%s and %s: %d systems", args.markdown, args.csv, len(systems) + len(baselines))


if __name__ == "__main__":
    run(main)
