"""Summarize a tagged archive, or count the windows and events that match a condition.

ust query OUT
ust query OUT siren --by day,hour --csv siren.csv
ust query OUT "siren > 0.8 and not music and hour < 6" --page siren.html

Without a condition: number of recordings, hours and sensors, the most frequent labels, when they occur and
where they are clearest. A condition is an SQL expression over the labels, sensor, path, time (UTC), hour,
day, weekday, week and month. A label alone means that it reaches its threshold. It may be abbreviated to any
part that is unique among the labels; put parts with spaces in double quotes.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ust.cli.console import check_suffix, log, log_done, parse_args, progress
from ust.util.errors import UserError, plural

if TYPE_CHECKING:
    from ust.archive.folder import Archive


def main(prog: str = "ust query", argv: Sequence[str] | None = None) -> None:
    """Print an overview of the archive, or the counts and the best windows of a condition."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("archive", metavar="OUT", help="archive that ust tag-archive wrote")
    add("condition", metavar="CONDITION", nargs="?", help='for example "siren > 0.8 and not music"')
    add(
        "--by", default="", help="count by hour, day, weekday, week, month (UTC), sensor or path, with commas"
    )
    add("--top", type=int, help="number of best windows, default 10; in an overview of each label, 1")
    add("--csv", type=Path, help="CSV file to write the counts to")
    add("--png", type=Path, help="PNG file to write a heat map to, hours against days")
    add("--page", type=Path, help="HTML file with heat maps and players to write")
    args = parse_args(parser, writes=["csv", "png", "page"], argv=argv)
    if args.top is not None and args.top < 1:
        parser.error(f"--top is {args.top}, should be at least 1")
    for option, suffix in (("csv", ".csv"), ("png", ".png"), ("page", ".html")):
        check_suffix(f"--{option}", getattr(args, option), suffix)
    if args.condition is None and (args.by or args.png):
        parser.error("--by and --png need a condition, such as siren")

    from ust.archive.folder import Archive

    archive = Archive(args.archive)
    description = archive.description()
    if description is None:
        raise UserError(f"{args.archive}: no tagged archive; ust tag-archive makes one")
    if description.get("warning"):
        log.warning("warning: %s: %s", description["system"], description["warning"])
    tagged = archive.describe_progress()
    if tagged:
        log.warning(
            "warning: %s: %s; continue with ust tag-archive %s %s and the same options",
            args.archive, tagged, description["source"], args.archive,
        )  # fmt: skip
    warnings = [text for text in (description.get("warning"), tagged) if text]
    if args.condition is None:
        _summarize(args, archive, description, warnings)
    else:
        _query(args, archive, description, warnings)


def _summarize(
    args: argparse.Namespace, archive: "Archive", description: dict[str, Any], warnings: list[str]
) -> None:
    """Print the overview and write its files."""
    from ust.archive.query import list_coarse_labels, summarize
    from ust.reports.archive_report import format_overview, render_overview
    from ust.util.files import write_text

    overview = summarize(
        archive, description["labels"], description.get("thresholds"),
        coarse=list_coarse_labels(description), top=args.top or 1, every=bool(args.csv),
    )  # fmt: skip
    sys.stdout.write(format_overview(overview, description["source"]))
    if args.csv:
        write_text(args.csv, overview.labels.to_csv())
    if args.page:
        name = archive.root.rpartition("/")[2]
        page = render_overview(name, overview, warnings, description["source"], progress=progress)
        write_text(args.page, page)
    log_done("%s: tagged by %s", args.archive, description["system"])


def _query(
    args: argparse.Namespace, archive: "Archive", description: dict[str, Any], warnings: list[str]
) -> None:
    """Print the result of a query and write its files."""
    from ust.archive.query import parse_condition, run_query
    from ust.reports.archive_report import draw_query_heat_map, format_query, render_query
    from ust.util.files import atomic_write, write_text

    try:
        condition = parse_condition(args.condition, description["labels"], description.get("thresholds"))
    except UserError:
        if os.path.isdir(args.condition):  # noqa: PTH112 - Path.is_dir raises for names that are too long
            raise UserError(
                f"{args.condition}: is a folder, should be a condition; a query reads one archive, "
                f"{args.archive}"
            ) from None
        raise
    by = [name for name in args.by.split(",") if name]
    counts, windows = run_query(archive, condition, by=by, top=args.top or 10)
    if args.png or args.page:
        by_hour, _ = run_query(archive, condition, by=["day", "hour"], top=1)
        if args.png and by_hour["day"].isna().all():
            raise UserError(
                f"{args.archive}: no recording's time is known, so there is no heat map to draw; leave "
                "out --png"
            )
    sys.stdout.write(format_query(counts, windows, description["source"]))
    if args.csv:
        write_text(args.csv, counts.to_csv(index=False))
    if args.png:
        with atomic_write(args.png) as partial:
            partial.write_bytes(draw_query_heat_map(args.condition, by_hour, warnings))
    if args.page:
        source = description["source"]
        page = render_query(args.condition, counts, windows, by_hour, warnings, source, progress=progress)
        write_text(args.page, page)
    matching, total = int(counts["matching"].sum()), int(counts["windows"].sum())
    log_done("%s: %d of %s", args.archive, matching, plural(total, "window"))
