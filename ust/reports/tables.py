"""The report's Tables 3 and 4 from metrics, next to the published values, and tables over all systems."""

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ust.util.documents import markdown_table
from ust.util.tables import read_csv

WIDTH = 110  # of the notes below the tables, so that they fit into a terminal
MARK = "†"
UNCONVERGED = "still improving in its last epoch; with more epochs its rank would change"
SPREAD = (
    "Every figure varies with the seed; differences below that variation, or within the intervals, are not "
    "significant."
)
CONSTANT = "constant prediction"
CONSTANT_NOTE = (
    "The constant prediction is each label's share of positives, the same for every clip; its official AUPRC "
    "is below that share."
)
METRIC_TITLES = {"micro_auprc": "micro AUPRC", "micro_f1": "micro F1", "macro_auprc": "macro AUPRC"}
COLUMNS = tuple(f"{level}_{metric}" for level in ("fine", "coarse") for metric in METRIC_TITLES)
HEADERS = tuple(f"{level} {name}" for level in ("fine", "coarse") for name in METRIC_TITLES.values())

# Data behind Tables 3 and 4 of Tompkins & Nichols: the validate split of SONYC-UST v1, version 0.1 as
# published, with its error in the coarse label machinery-impact.
REPORT_DATA = {
    "data_source": "sonyc-ust-v1",
    "data_release": "0.1",
    "coarse": "as_given",
    "split": "validate",
}
# The report's figures by system: its name there, and the values of `COLUMNS`.
REPORT = {
    "cnn_vggish_coarse": ("CNN+VGGish1", (0.646, 0.483, 0.425, 0.787, 0.609, 0.579)),
    "cnn_vggish_fine": ("CNN+VGGish2", (0.656, 0.398, 0.401, 0.768, 0.533, 0.555)),
    "hierarchical": ("Hierarchical", (0.643, 0.490, 0.414, 0.787, 0.609, 0.579)),
    "baseline_fine": ("Fine-level", (0.671, 0.502, 0.427, 0.742, 0.507, 0.530)),
    "baseline_coarse": ("Coarse-level", (None, None, None, 0.762, 0.674, 0.542)),
}


@dataclass(frozen=True)
class Row:
    """The metrics of a system in the order of `COLUMNS`; None for a level that it does not predict."""

    system: str
    values: tuple[float | None, ...]
    converged: bool = True

    @property
    def name(self) -> str:
        """Name of the system, marked if it was still improving in its last epoch."""
        return self.system if self.converged else f"{self.system} {MARK}"


def table_row(system: str, metrics: dict[str, Any]) -> Row:
    """Build the row of a system from the detailed metrics of the stage evaluate."""
    values = tuple(
        metrics.get(level, {}).get(metric) for level in ("fine", "coarse") for metric in METRIC_TITLES
    )
    return Row(system, values, metrics["provenance"].get("converged", True))


def report_rows(systems: list[str]) -> list[Row]:
    """Return the published rows of the systems that the report has."""
    return [Row(*REPORT[system]) for system in systems if system in REPORT]


def format_cells(rows: list[Row], others: list[Row]) -> list[list[str]]:
    """Format cells as the report: italics for the best of a column, bold for better than the other table."""

    def column(table: list[Row], index: int) -> list[float]:
        return [row.values[index] for row in table if row.values[index] is not None]

    cells = []
    for row in rows:
        line = [row.name]
        for index, value in enumerate(row.values):
            if value is None:
                line.append("–")
                continue
            text = f"{value:.3f}"
            if value == max(column(rows, index)):
                text = f"*{text}*"
            if others and value > max(column(others, index), default=2):
                text = f"**{text}**"
            line.append(text)
        cells.append(line)
    return cells


def table_markdown(systems: list[Row], baselines: list[Row], provenance: str) -> str:
    """Format both tables as Markdown, each followed by the published one."""
    names = [[row.system for row in table] for table in (systems, baselines)]
    report_systems, report_baselines = (report_rows(table) for table in names)
    parts = []
    for title, rows, against, report, report_against in (
        ("Table 3: systems", systems, baselines, report_systems, report_baselines),
        ("Table 4: baselines", baselines, systems, report_baselines, report_systems),
    ):
        parts.append(f"### {title}, {provenance}\n\n{_grid(format_cells(rows, against))}")
        parts.append(
            "The report's own figures, on the real SONYC-UST v1 with AudioSet's VGGish, not run here:\n\n"
            + _grid(format_cells(report, report_against))
        )
    marks = (
        "Italics: the best of a column. Bold: in Table 3 ahead of every baseline, in Table 4 of every system."
    )
    notes = (marks, f"{MARK}: {UNCONVERGED}. {SPREAD}")
    parts.append("\n".join(textwrap.fill(note, WIDTH) for note in notes))
    return "\n\n".join(parts) + "\n"


def table_frame(systems: list[Row], baselines: list[Row]) -> pd.DataFrame:
    """Return both tables as a data frame: table, system, source ("here" or "report") and `COLUMNS`."""
    lines = []
    for number, table in ((3, systems), (4, baselines)):
        names = [row.system for row in table]
        lines += [(number, row.system, "here", *row.values) for row in table]
        lines += [(number, name, "report", *REPORT[name][1]) for name in names if name in REPORT]
    return pd.DataFrame(lines, columns=["table", "system", "source", *COLUMNS])


def _grid(cells: list[list[str]]) -> str:
    """Format cells as a Markdown table with a header that fits into a terminal."""
    first, *others = METRIC_TITLES.values()
    header = ["system", *(name for level in ("fine", "coarse") for name in (f"{level}: {first}", *others))]
    return markdown_table(header, cells)


def results_table(metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Build the page's table of headline metrics with intervals, ending with a constant prediction."""
    rows = []
    for system, system_metrics in metrics.items():
        intervals = system_metrics["ci95"]["clips"]
        cells = []
        for column, value in zip(COLUMNS, table_row(system, system_metrics).values, strict=True):
            level, metric = column.split("_", 1)
            cells.append(_cell(value, None if value is None else intervals[level][metric]))
        rows.append({"system": table_row(system, system_metrics).name, "cells": cells})
    _flag_best(rows)
    constants = {level: scores for m in metrics.values() for level, scores in m["constant"].items()}
    constant = [
        _cell(constants.get(level, {}).get(metric))
        for level, _, metric in (column.partition("_") for column in COLUMNS)
    ]
    note = f"{MARK}: {UNCONVERGED}. {SPREAD} {CONSTANT_NOTE}"
    return {"columns": HEADERS, "rows": [*rows, {"system": CONSTANT, "cells": constant}], "note": note}


def classes_table(metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Build the page's table of coarse AUPRC by class and system.

    It ends with the AUPRC of a constant prediction and the share of clips that have each class.
    """
    first = next(iter(metrics.values()))
    names = list(first["prevalence"]["coarse"])

    def row(system: str, areas: Mapping[str, float]) -> dict[str, Any]:
        return {"system": system, "cells": [_cell(areas[name]) for name in names]}

    rows = [row(system, content["coarse"]["class_auprc"]) for system, content in metrics.items()]
    _flag_best(rows)
    rows.append(row(CONSTANT, first["constant"]["coarse"]["class_auprc"]))
    rows.append(row("share of clips (prevalence)", first["prevalence"]["coarse"]))
    return {"columns": [name.replace("-", " ") for name in names], "rows": rows}


def _cell(value: float | None, interval: list[float] | None = None) -> dict[str, Any]:
    """Format a metric and its interval as a cell."""
    return {
        "value": value,
        "text": "–" if value is None else f"{value:.3f}",
        "interval": f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "",
        "best": False,
    }


def _flag_best(rows: list[dict[str, Any]]) -> None:
    """Mark the best cell of each column, in place."""
    for cells in zip(*(line["cells"] for line in rows), strict=True):
        values = [cell["value"] for cell in cells if cell["value"] is not None]
        for cell in cells:
            cell["best"] = cell["value"] is not None and cell["value"] == max(values)


def combine_curves(folder: Path, systems: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Concatenate the evaluation tables (`ust.evaluation.curves.curves`) of all systems, by file name."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for system in systems:
        for path in sorted((folder / system).glob("*.csv")):
            table = read_csv(path)
            table.insert(0, "system", system)
            tables.setdefault(path.stem, []).append(table)
    return {name: pd.concat(parts) for name, parts in tables.items()}


def combine_histories(paths: Iterable[Path]) -> pd.DataFrame:
    """Concatenate the learning curves of all networks: ``system``, ``epoch`` and all their metrics."""
    tables = [read_csv(path, hint="the stage train makes it") for path in paths]
    return pd.concat(tables).rename(columns={"network": "system"})


def split_by_metric(history: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split learning curves into a table per metric: ``system``, ``epoch`` and the metric."""
    keys = ["system", "epoch"]
    return {
        name: history[[*keys, name]].dropna() for name in history.columns if name not in (*keys, "restarts")
    }
