"""Query a tagged archive: how many windows match a condition, when and where.

ust query OUT "siren > 0.8 and not music > 0.5" --by hour,sensor

A label may be abbreviated to any part that is unique among the labels; quote parts that contain spaces.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ust.cli.console import log_done, parse_args
from ust.util.errors import UserError


def main(prog: str = "ust query", argv: Sequence[str] | None = None) -> None:
    """Print the counts and the windows with the highest probabilities."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", metavar="OUT", help="archive that ust tag-archive wrote")
    parser.add_argument(
        "condition", metavar="CONDITION", help='for example "siren > 0.8 and not music > 0.5"'
    )
    parser.add_argument(
        "--by",
        default="",
        help="count for each hour, day, weekday, month (UTC), sensor or path; separate several by commas",
    )
    parser.add_argument(
        "--top", type=int, default=10, help="number of best matching windows to list, default 10"
    )
    parser.add_argument("--csv", type=Path, help="CSV file to write the counts to")
    parser.add_argument("--png", type=Path, help="PNG file to write a heat map to, hours against days")
    parser.add_argument("--page", type=Path, help="HTML file to write the whole result to")
    args = parse_args(parser, writes=["csv", "png", "page"], argv=argv)
    if args.top < 1:
        parser.error(f"--top is {args.top}, should be at least 1")

    from ust.archive.folder import Archive
    from ust.archive.query import parse_condition, run_query
    from ust.util.files import atomic_write

    archive = Archive(args.archive)
    description = archive.description()
    if description is None:
        raise UserError(f"{args.archive}: no tagged archive; ust tag-archive makes one")
    condition = parse_condition(args.condition, description["labels"])
    counts, clips = run_query(
        archive, condition, by=[name for name in args.by.split(",") if name], top=args.top
    )
    sys.stdout.write(f"{counts.to_string(index=False)}\n\n{clips.to_string(index=False)}\n")
    if args.csv:
        with atomic_write(args.csv) as partial:
            counts.to_csv(partial, index=False)
    if args.png or args.page:
        from ust.reports.heat_map import heat_map_png, render_query_page

        by_hour, _ = run_query(archive, condition, by=["day", "hour"], top=1)
        dated = by_hour.dropna(subset=["day"])
        if args.png and dated.empty:
            raise UserError(f"{args.archive}: no recording's time is known, so there is no heat map to draw")
        picture = None if dated.empty else heat_map_png(dated, args.condition)
        if args.png:
            with atomic_write(args.png) as partial:
                partial.write_bytes(picture)
        if args.page:
            with atomic_write(args.page) as partial:
                partial.write_text(render_query_page(args.condition, counts, clips, picture), "utf-8")
    log_done("%s: %d of %d windows", args.archive, counts["matching"].sum(), counts["windows"].sum())
