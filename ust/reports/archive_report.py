"""Overviews of tagged archives and results of queries, as text and as self-contained HTML pages."""

import io
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ust.archive.filesystems import open_recording_file
from ust.archive.query import Overview
from ust.reports.media import AXES_COLOUR, data_uri, embed_clip, read_clip
from ust.util.documents import render_template
from ust.util.errors import UserError, plural
from ust.util.progress import Progress, silent

HOURS = 24
LEVELS = " ▁▂▃▄▅▆▇█"
MAX_MAPS = 6  # of labels in an overview
MAX_DAYS = 31  # a longer time is shown by weekday
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
UNKNOWN = "unknown"
HEADINGS = {"events_per_hour": "events/hour", "probability": "p"}


def describe_size(overview: Overview) -> str:
    """Return a line with the number of recordings, hours and sensors, and the time they cover."""
    if overview.first is None:
        covered = "times unknown"
    else:
        covered = f"{overview.first:%Y-%m-%d %H:%M} to {overview.last:%Y-%m-%d %H:%M} UTC"
    sizes = plural(overview.recordings, "recording"), plural(overview.sensors, "sensor")
    return f"{sizes[0]}, {overview.hours:,.2f} hours, {sizes[1]}, {covered}"


def describe_labels(overview: Overview) -> str:
    """Return a heading of the labels that an overview shows, with their number."""
    kind = "coarse" if overview.coarse else "most frequent"
    return f"The {kind} labels ({len(overview.shown)} of {plural(overview.label_count, 'label')})"


def _present_labels(overview: Overview) -> list[str]:
    """Return the labels to show that reach their threshold in any window."""
    return [label for label in overview.shown if overview.labels.loc[label, "events"]]


def _describe_undated(windows: int) -> list[str]:
    """Return a note about the windows that are not in a heat map."""
    return [f"not shown: {plural(windows, 'window')} without a known time"] if windows else []


def format_overview(overview: Overview, source: str = "") -> str:
    """Format an overview for the terminal, with paths relative to the source of the recordings."""
    present = _present_labels(overview)
    if not present:
        return f"{describe_size(overview)}\n\nNo label reaches its threshold.\n"
    more = "" if len(overview.shown) == overview.label_count else "; --csv writes all labels"
    parts = [
        describe_size(overview),
        f"{describe_labels(overview)}, by the share of the windows in which they reach their "
        f"threshold{more}:\n" + format_table(overview.labels.loc[overview.shown].reset_index()),
    ]
    days, shares = hours_by_day(overview.by_hour, present[0])
    if len(days):
        hours = "".join(f"{hour:<6}" for hour in range(0, HOURS, 6))
        rows = [f"{day:<10}  {''.join(map(_draw_share, row))}" for day, row in zip(days, shares, strict=True)]
        parts.append(
            f"Share of the windows with {present[0]} by hour (UTC); "
            + "; ".join(["a dot is 0, a blank is not tagged", *_describe_undated(overview.undated)])
            + ":\n"
            + "\n".join([f"{'':<10}  {hours}", *rows])
        )
    clearest = overview.clearest.groupby("label", sort=False).head(1)
    clearest = _shorten_paths(clearest[clearest["label"].isin(present)], source)
    parts.append("Where each of them is clearest:\n" + format_table(clearest.drop(columns="duration")))
    return "\n\n".join(parts) + "\n"


def format_query(counts: pd.DataFrame, windows: pd.DataFrame, source: str = "") -> str:
    """Format the result of a query for the terminal, with paths relative to the source of the recordings."""
    best = (
        format_table(_shorten_paths(windows, source)) if len(windows) else "No window matches the condition."
    )
    return f"{format_table(counts)}\n\n{best}\n"


def _shorten_paths(windows: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return windows with paths relative to the source of the recordings."""
    return windows.assign(path=[shorten_path(path, source) for path in windows["path"]])


def shorten_path(path: str, source: str) -> str:
    """Return a path without the folders that it shares with a source: a folder, a pattern or a manifest.

    Examples
    --------
    >>> shorten_path("/city/roof/a.wav", "/city"), shorten_path("/city/roof/a.wav", "/city/manifest.csv")
    ('roof/a.wav', 'roof/a.wav')
    """
    parts = PurePosixPath(path).parts
    pairs = zip(parts, PurePosixPath(source).parts, strict=False)
    shared = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return path if shared < 2 else "/".join(parts[min(shared, len(parts) - 1) :])


def format_table(table: pd.DataFrame) -> str:
    """Format a table as text: numbers with at most three decimals, unknown values as "unknown"."""
    cells = _format_cells(table)
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    widths = [max(map(len, [name, *cells[name]])) for name in cells]
    align = [str.rjust if number else str.ljust for number in numeric]
    lines = [cells.columns, *cells.itertuples(index=False)]
    return "\n".join(
        "  ".join(pad(text, width) for text, width, pad in zip(line, widths, align, strict=True)).rstrip()
        for line in lines
    )


def _format_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return the texts of a table's cells, with headings as its columns."""

    def texts(column: pd.Series) -> list[str]:
        if pd.api.types.is_float_dtype(column):
            whole = (column.dropna() % 1 == 0).all() and column.name != "probability"
            return [UNKNOWN if np.isnan(each) else f"{each:.{0 if whole else 3}f}" for each in column]
        cut = " 00:00:00" if column.name == "day" else ""
        return [UNKNOWN if pd.isna(each) else str(each).removesuffix(cut) for each in column]

    columns = {HEADINGS.get(str(name), str(name)): texts(table[name]) for name in table}
    return pd.DataFrame(columns, dtype=str)


def _draw_share(share: float) -> str:
    """Draw a share as a character: blank if unknown, a dot if 0."""
    return " " if np.isnan(share) else LEVELS[int(np.ceil(share * 8))] if share > 0 else "·"


def hours_by_day(by_hour: pd.DataFrame, column: str) -> tuple[list[str], np.ndarray]:
    """Return days, and the shares by day and hour [shape=(days, 24)], NaN without recordings.

    If the recordings cover more than 31 days, the days are weekdays.
    """
    dated = by_hour.dropna(subset=["day"])
    if dated.empty:
        return [], np.zeros((0, HOURS))
    days = pd.to_datetime(dated["day"])
    if (days.max() - days.min()).days >= MAX_DAYS:
        names: Sequence[str] = WEEKDAYS
        rows = days.dt.day_of_week
    else:
        every = pd.date_range(days.min(), days.max(), freq="D")
        names, rows = [f"{day:%Y-%m-%d}" for day in every], pd.Series(every.get_indexer(days), days.index)
    shares = dated[column].groupby([rows, dated["hour"].astype(int)]).mean().unstack()
    return list(names), shares.reindex(index=range(len(names)), columns=range(HOURS)).to_numpy(float)


def draw_heat_map(
    by_hour: pd.DataFrame, column: str, title: str, notes: Sequence[str] = (), *, transparent: bool = False
) -> bytes:
    """Draw shares by hour and day as PNG, one row per hour and one column per day (or weekday).

    A transparent picture can be read on light and dark pages.
    """
    days, shares = hours_by_day(by_hour, column)
    colour, background = (AXES_COLOUR, "none") if transparent else ("black", "white")
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with mpl.rc_context({"font.size": 9} | dict.fromkeys(names, colour)):
        figure = Figure(figsize=(3.5 + 0.3 * len(days), 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor((0.5, 0.5, 0.5, 0.3))
        highest = np.nanmax(shares) or 1.0
        image = axes.imshow(shares.T, aspect="auto", origin="lower", vmin=0, vmax=highest, cmap="viridis")
        step = max(1, len(days) // 12)
        axes.set_xticks(range(0, len(days), step), days[::step], rotation=45, ha="right")
        axes.set_yticks(range(0, HOURS, 3), [f"{hour:02}:00" for hour in range(0, HOURS, 3)])
        axes.set_title(title, parse_math=False, wrap=True)
        axes.set_ylabel("hour of the day (UTC)")
        axes.set_xlabel("\n".join(["grey: no recordings", *notes]), wrap=True)
        figure.colorbar(image, label="share of windows")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120, facecolor=background, metadata={"Software": None})
    return buffer.getvalue()


def render_overview(
    name: str,
    overview: Overview,
    warnings: Sequence[str] = (),
    source: str = "",
    *,
    progress: Progress = silent,
) -> str:
    """Render an overview as one HTML page with heat maps and players of the clearest windows."""
    present = _present_labels(overview)
    dated = present[:MAX_MAPS] if overview.by_hour["day"].notna().any() else []
    chosen = overview.clearest[overview.clearest["label"].isin(present)]
    notes = _describe_undated(overview.undated)
    maps = [draw_heat_map(overview.by_hour, label, label, notes, transparent=True) for label in dated]
    return _render(
        f"{name}: overview", warnings, describe_size(overview), maps=list(zip(dated, maps, strict=True)),
        tables=[(describe_labels(overview), overview.labels.loc[overview.shown].reset_index())],
        heading="Where they are clearest", windows=chosen, source=source, progress=progress,
        note="Labels count as present where their probability reaches their threshold. Share: of the "
        "windows. Events: sections in which consecutive windows have the label.",
    )  # fmt: skip


def render_query(
    condition: str,
    counts: pd.DataFrame,
    windows: pd.DataFrame,
    by_hour: pd.DataFrame,
    warnings: Sequence[str] = (),
    source: str = "",
    *,
    progress: Progress = silent,
) -> str:
    """Render the result of a query as a self-contained HTML page with players of the best windows."""
    dated = by_hour["day"].notna().any()
    return _render(
        condition, warnings, "",
        maps=[(condition, draw_query_heat_map(condition, by_hour, transparent=True))] if dated else [],
        tables=[("How often", counts)], heading="Where it is clearest", windows=windows, source=source,
        progress=progress, note="" if dated else "The times of the recordings are unknown.",
    )  # fmt: skip


def draw_query_heat_map(
    condition: str, by_hour: pd.DataFrame, notes: Sequence[str] = (), *, transparent: bool = False
) -> bytes:
    """Draw the share of matching windows by hour and day as PNG, with notes below."""
    undated = _describe_undated(int(by_hour.loc[by_hour["day"].isna(), "windows"].sum()))
    return draw_heat_map(by_hour, "share", condition, [*undated, *notes], transparent=transparent)


def _render(
    title: str,
    warnings: Sequence[str],
    size: str,
    *,
    maps: list[tuple[str, bytes]],
    tables: list[tuple[str, pd.DataFrame]],
    heading: str,
    windows: pd.DataFrame,
    source: str,
    note: str,
    progress: Progress,
) -> str:
    """Render a page with heat maps, tables and players of windows."""
    rows = windows.to_dict("records")
    texts = _format_cells(windows.drop(columns=["path"])).to_dict("records")
    read = progress(zip(rows, texts, strict=True), total=len(rows), description="clips", unit="clip")
    return render_template(
        Path(__file__).with_name("archive.html.jinja"),
        html=True,
        title=title,
        warnings=warnings,
        size=size,
        note=note,
        maps=[(name, data_uri(picture, "image/png")) for name, picture in maps],
        tables=[(name, _format_cells(table)) for name, table in tables],
        heading=heading,
        clips=[_clip_content(row, text, source) for row, text in read],
    )


def _clip_content(window: dict[str, Any], texts: dict[str, str], source: str) -> dict[str, Any]:
    """Return the page's data of a window; the reason instead of picture and sound if it cannot be read."""
    path = str(window["path"])
    content = {"name": shorten_path(path, source), "columns": texts}
    try:
        with open_recording_file(path) as file:
            samples = read_clip(file, path, start=float(window["start"]), duration=float(window["duration"]))
    except UserError as error:
        return content | {"reason": str(error).removeprefix(f"{path}: ")}
    return content | embed_clip(samples)
