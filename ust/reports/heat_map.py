"""Heat map of a query: how often a tag occurs by hour and day, as PNG and as an HTML page."""

import base64
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ust.util.documents import render_template

HOURS = 24


def heat_map_png(counts: pd.DataFrame, title: str) -> bytes:
    """Draw the share of matching windows, one row per hour and one column per day, as PNG.

    Parameters
    ----------
    counts : pandas.DataFrame
        ``day``, ``hour``, ``share``. Hours without recordings have no row and stay white.
    title : str
    """
    days = pd.date_range(counts["day"].min(), counts["day"].max(), freq="D")
    shares = np.full((HOURS, len(days)), np.nan)
    at = days.get_indexer(pd.to_datetime(counts["day"]))
    shares[counts["hour"].to_numpy(int), at] = counts["share"]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(min(14, 3.5 + 0.22 * len(days)), 5), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares, aspect="auto", origin="lower", vmin=0, cmap="viridis")
        step = max(1, len(days) // 12)
        axes.set_xticks(range(0, len(days), step), [f"{day:%Y-%m-%d}" for day in days[::step]], rotation=45)
        axes.set_yticks(range(0, HOURS, 3), [f"{hour:02}:00" for hour in range(0, HOURS, 3)])
        axes.set(title=title, ylabel="hour of the day")
        figure.colorbar(image, label="share of windows")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def render_query_page(title: str, counts: pd.DataFrame, clips: pd.DataFrame, picture: bytes | None) -> str:
    """Render the result of a query as a self-contained HTML page."""
    return render_template(
        Path(__file__).with_name("query.html.jinja"),
        html=True,
        title=title,
        picture=base64.b64encode(picture).decode() if picture else None,
        tables=[("How often", counts.astype(str)), ("Where it is clearest", clips.astype(str))],
    )
