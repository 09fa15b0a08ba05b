"""Ask a tagged archive: how often, when and where was something heard?

ust query OUT "siren > 0.8 and not music > 0.5" --by hour,sensor

A label may be named by a part of it that no other has; in quotes if there are spaces in it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ust.cli.console import log_done, parse_args
from ust.util.errors import UserError


def main(prog: str = "ust query", words: Sequence[str] | None = None) -> None:
    """Print counts and the clearest windows."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", metavar="OUT", help="what tag-archive wrote")
    parser.add_argument("condition", metavar="CONDITION")
    parser.add_argument(
        "--by", default="", help="count by these: hour, day, weekday, month (UTC), sensor, path; with commas"
    )
    parser.add_argument("--top", type=int, default=10, help="how many of the clearest windows, default 10")
    parser.add_argument("--csv", type=Path, help="file for the counts, too")
    parser.add_argument("--png", type=Path, help="file for a map of hours against days")
    parser.add_argument("--page", type=Path, help="file for all of it as a page")
    args = parse_args(parser, writes=["csv", "png", "page"], words=words)
    if args.top < 1:
        parser.error(f"--top is {args.top}, should be at least 1")

    from ust.archive.folder import Archive
    from ust.archive.query import parse_condition, run_query
    from ust.util.files import atomic_write

    archive = Archive(args.archive)
    description = archive.description()
    if description is None:
        raise UserError(f"{args.archive}: there is no tagged archive there")
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

        hours, _ = run_query(archive, condition, by=["day", "hour"], top=1)
        known = hours.dropna(subset=["day"])
        if args.png and known.empty:
            raise UserError(f"{args.archive}: no recording's time is known, so there is no map of them")
        picture = None if known.empty else heat_map_png(known, args.condition)
        if args.png:
            with atomic_write(args.png) as partial:
                partial.write_bytes(picture)
        if args.page:
            with atomic_write(args.page) as partial:
                partial.write_text(render_query_page(args.condition, counts, clips, picture), "utf-8")
    log_done("%s: %d of %d windows", args.archive, counts["matching"].sum(), counts["windows"].sum())
