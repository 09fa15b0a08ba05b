"""The page's tables, from the metrics of the stage evaluate."""

from typing import Any

from ust.scores.tables import COLUMNS, HEADERS, MARK, SPREAD, UNCONVERGED, row

Metrics = dict[str, Any]


def results(metrics: dict[str, Metrics]) -> dict[str, Any]:
    """The headline figures of each system with their intervals, and those of the best constant answer."""
    rows = []
    for system, found in metrics.items():
        intervals = found["ci95"]["clips"]
        cells = []
        for column, value in zip(COLUMNS, row(system, found).values, strict=True):
            level, figure = column.split("_", 1)
            cells.append(_cell(value, None if value is None else intervals[level][figure]))
        rows.append({"system": row(system, found).name, "cells": cells})
    _mark_best(rows)
    prevalence = next(iter(metrics.values()))["prevalence"]
    constant = [
        _cell(prevalence.get(level, {}).get(figure))
        for level, _, figure in (column.partition("_") for column in COLUMNS)
    ]
    note = f"{MARK}: {UNCONVERGED}. {SPREAD}"
    return {"columns": HEADERS, "rows": [*rows, {"system": "prevalence", "cells": constant}], "note": note}


def classes(metrics: dict[str, Metrics], prevalence: dict[str, float]) -> dict[str, Any]:
    """The coarse AUPRC of each class and system.

    Parameters
    ----------
    metrics : dict
        By system.
    prevalence : dict of str to float
        The share of clips that have each class.
    """
    rows = [
        {"system": system, "cells": [_cell(found["coarse"]["class_auprc"][name]) for name in prevalence]}
        for system, found in metrics.items()
    ]
    _mark_best(rows)
    rows.append({"system": "prevalence", "cells": [_cell(share) for share in prevalence.values()]})
    return {"columns": [name.replace("-", " ") for name in prevalence], "rows": rows}


def _cell(value: float | None, interval: list[float] | None = None) -> dict[str, Any]:
    return {
        "value": value,
        "text": "–" if value is None else f"{value:.3f}",
        "interval": f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "",
        "best": False,
    }


def _mark_best(rows: list[dict[str, Any]]) -> None:
    for cells in zip(*(line["cells"] for line in rows), strict=True):
        values = [cell["value"] for cell in cells if cell["value"] is not None]
        for cell in cells:
            cell["best"] = cell["value"] is not None and cell["value"] == max(values)
