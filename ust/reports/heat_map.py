"""Hours against days: when something was heard, as a picture and on a page."""

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
    """A PNG of the share of windows that match, an hour a row and a day a column.

    Parameters
    ----------
    counts : pandas.DataFrame
        ``day``, ``hour``, ``share``; hours without recordings are missing and stay white.
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
    """The answer to a query as one HTML file that asks for nothing from outside."""
    return render_template(
        Path(__file__).with_name("answer.html.jinja"),
        html=True,
        title=title,
        picture=base64.b64encode(picture).decode() if picture else None,
        tables=[("How often", counts.astype(str)), ("Where it is clearest", clips.astype(str))],
    )
