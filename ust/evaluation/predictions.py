"""Reading and writing predictions in the official submission layout."""

import difflib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ust.annotations.taxonomy import Taxonomy, label_name
from ust.util.errors import UserError, bullet_list, plural, shorten
from ust.util.names import nfc
from ust.util.tables import LineNumbers, read_csv, write_csv


def write_predictions(path: Path, clips: list[str], probabilities: np.ndarray, taxonomy: Taxonomy) -> None:
    """Write ``audio_filename``, the fine label columns, then the coarse ones, with six decimals.

    Parameters
    ----------
    path : Path
        CSV file.
    clips : list of str
        Clip names; rows are sorted by them.
    probabilities : numpy.ndarray [shape=(clips, labels)]
        Coarse labels first, as `Taxonomy.labels`.
    """
    table = pd.DataFrame(probabilities.astype(np.float64), columns=list(taxonomy.labels))
    table = table[[*taxonomy.fine, *taxonomy.coarse]]
    table.insert(0, "audio_filename", clips)
    write_csv(path, table.sort_values("audio_filename", kind="stable"), float_format="%.6f")


def read_predictions(
    path: Path, clips: list[str], taxonomy: Taxonomy, *, others: Iterable[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Read the predictions for `clips`.

    Parameters
    ----------
    path : Path
        CSV file.
    clips : list of str
        The clips to read.
    others : iterable of str
        Clips that the file may also have, such as those of the split without ground truth; they are ignored.

    Returns
    -------
    table : pandas.DataFrame
        One row per clip, in the order of `clips`; one float column per label, coarse first.
    missing : list of str
        Labels without a column, which are taken as 0.

    Raises
    ------
    UserError
        If the file is another kind of table, or has no label column or a misspelt one. Also if clips are
        missing, unexpected or duplicated, or values are not in [0, 1]; the message lists them.
    """
    table = read_csv(path, hint="the stage predict makes it", dtype={"audio_filename": object})
    table.columns = [nfc(name) for name in table.columns]
    missing = _check_columns(path, table, taxonomy)
    known = {name: name for name in (*others, *clips)}
    spelling = {nfc(name): name for name in known} | known
    names = [
        spelling.get(name) or spelling.get(nfc(name), name) for name in map(str, table["audio_filename"])
    ]
    rows = {name: row for row, name in enumerate(names)}
    twice = [name for name, count in Counter(names).items() if count > 1] if len(rows) < len(names) else []
    problems = [
        f"{len(affected)} clip(s) {problem}: {shorten(affected)}"
        for affected, problem in (
            (sorted(set(clips) - set(rows)), "of the split are missing"),
            (sorted(set(rows) - set(known)), "are not the split's"),
            (sorted(twice), "are there more than once"),
        )
        if affected
    ]
    labels = list(taxonomy.labels)
    columns = [column for column, label in enumerate(labels) if label not in missing]
    predicted = table[[labels[column] for column in columns]]
    if not all(map(pd.api.types.is_numeric_dtype, predicted.dtypes)):
        predicted = predicted.apply(pd.to_numeric, errors="coerce")
    values = np.zeros((len(table), len(labels)))
    values[:, columns] = predicted
    lines = LineNumbers(path)
    for column, row in np.argwhere(~((values >= 0) & (values <= 1)).T):
        label = labels[column]
        problems.append(f"line {lines[row]}: {label} is {table[label].iloc[row]}, should be in [0, 1]")
    if problems:
        raise UserError(f"{path}: {plural(len(problems), 'problem')}:\n{bullet_list(problems)}")
    values = values[[rows[clip] for clip in clips]]
    return pd.DataFrame(values, pd.Index(clips, name="audio_filename"), labels), missing


def _check_columns(path: Path, table: pd.DataFrame, taxonomy: Taxonomy) -> list[str]:
    """Check that the table has predictions; return the labels without a column."""
    wanted = "should be predictions: audio_filename and a column of probabilities for each label"
    if "annotator_id" in table.columns:
        raise UserError(f"{path}: these are annotations (it has annotator_id), {wanted}")
    if "split" in table.columns:
        raise UserError(f"{path}: these are labels (it has split), {wanted}")
    if "audio_filename" not in table.columns:
        raise UserError(f"{path}: column 'audio_filename' is missing; this {wanted}")
    columns, labels = list(map(str, table.columns)), ("audio_filename", *taxonomy.labels)
    missing = [label for label in taxonomy.labels if label not in columns]
    unknown = [name for name in columns if name not in labels]
    hints = []
    for name in unknown:
        near = difflib.get_close_matches(name, missing, n=1) or [
            label for label in missing if label_name(label) == name
        ]
        hints += [f"'{name}' ({near[0]}?)"] if near else []
    if hints:
        raise UserError(
            f"{path}: there is no label {shorten(hints)}; rename the column(s) as in the taxonomy"
        )
    if len(missing) == len(taxonomy.labels):
        have = f"has {shorten(unknown)}" if unknown else "has no other column"
        raise UserError(f"{path}: has a column for none of the labels, such as {shorten(missing)}; it {have}")
    return missing
