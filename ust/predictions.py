"""Prediction files in the official submission layout."""

from pathlib import Path

import numpy as np
import pandas as pd

from ust.csvs import read_csv
from ust.errors import UserError, listing
from ust.files import replacing
from ust.taxonomy import Taxonomy


def write_predictions(path: Path, clips: list[str], probabilities: np.ndarray, taxonomy: Taxonomy) -> None:
    """Write ``audio_filename``, the fine columns, then the coarse ones, to six decimals.

    Parameters
    ----------
    path : Path
        CSV file.
    clips : list of str
        Names; rows are written sorted by them.
    probabilities : numpy.ndarray [shape=(clips, labels)]
        Coarse first, as `Taxonomy.labels`.
    """
    table = pd.DataFrame(probabilities.astype(np.float64), columns=list(taxonomy.labels))
    table = table[[*taxonomy.fine, *taxonomy.coarse]]
    table.insert(0, "audio_filename", clips)
    with replacing(path) as partial:
        table.sort_values("audio_filename").to_csv(
            partial, index=False, float_format="%.6f", lineterminator="\n"
        )


def read_predictions(path: Path, clips: list[str], taxonomy: Taxonomy) -> tuple[pd.DataFrame, list[str]]:
    """Read the predictions for `clips`.

    Returns
    -------
    table : pandas.DataFrame
        One row per clip, in the order of `clips`; one float column per label, coarse first.
    missing : list of str
        Labels without a column, which are taken as 0.

    Raises
    ------
    UserError
        Listing clips that are missing, not wanted or there twice, and values that are not in [0, 1].
    """
    table = read_csv(path, hint="the stage predict makes it", dtype={"audio_filename": str})
    if "audio_filename" not in table.columns:
        raise UserError(f"{path}: column 'audio_filename' is missing")
    names = table["audio_filename"]
    problems = [f"clip {name} is missing" for name in sorted(set(clips) - set(names))]
    problems += [
        f"clip {name} is not one of the split's" for name in sorted(set(names.map(str)) - set(clips))
    ]
    problems += [
        f"clip {name} is there more than once" for name in sorted(set(names[names.duplicated()].map(str)))
    ]
    for label in taxonomy.labels:
        if label in table.columns:
            value = pd.to_numeric(table[label], errors="coerce")
            for row in np.flatnonzero(~value.between(0, 1)):
                problems.append(f"line {row + 2}: {label} is {table[label].iloc[row]}, should be in [0, 1]")
            table[label] = value
    if problems:
        raise UserError(f"{path}: {len(problems)} problem(s):\n{listing(problems)}")
    missing = [label for label in taxonomy.labels if label not in table.columns]
    table = table.set_index("audio_filename").loc[clips]
    return table.reindex(columns=list(taxonomy.labels), fill_value=0.0), missing
