"""The tables behind plots of all systems: one for each plot, with a column that names the system."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ust.files.csvs import read_csv
from ust.scores.tables import levels


def side_by_side(folder: Path, metrics: Mapping[str, dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """The tables of `ust.scores.curves.curves`, of each name those of all systems that predict its level.

    Parameters
    ----------
    folder : Path
        Holds a folder of CSV files for each system.
    metrics : mapping of str to dict
        Of the stage evaluate, by system.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    for system, found in metrics.items():
        for path in sorted((folder / system).glob("*.csv")):
            level = path.stem.split("_")[0]
            if level == "confusion" or level in levels(found):
                table = read_csv(path)
                table.insert(0, "system", system)
                tables.setdefault(path.stem, []).append(table)
    return {name: pd.concat(parts) for name, parts in tables.items()}


def histories(paths: Iterable[Path]) -> pd.DataFrame:
    """The learning curves of all networks: ``system, epoch`` and what any of them has.

    Parameters
    ----------
    paths : iterable of Path
        CSV files of the stage train; a network of a hierarchy is called ``SYSTEM/NODE``.
    """
    tables = [read_csv(path, hint="the stage train makes it") for path in paths]
    return pd.concat(tables).rename(columns={"network": "system"})


def by_figure(history: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each figure in learning curves the networks that have it: ``system, epoch`` and the figure."""
    keys = ["system", "epoch"]
    return {
        name: history[[*keys, name]].dropna() for name in history.columns if name not in (*keys, "restarts")
    }
