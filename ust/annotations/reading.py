"""Reading and checking ``annotations.csv``: who heard what in which clip."""

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ust.annotations.taxonomy import Taxonomy
from ust.files.csvs import read_csv
from ust.files.errors import UserError, listing, some
from ust.files.nfc import nfc

SPLITS = ("train", "validate", "test")
KEYS = ("split", "sensor_id", "audio_filename", "annotator_id")
GROUND_TRUTH = 0
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")


def read_annotations(path: Path, taxonomy: Taxonomy) -> pd.DataFrame:
    """Read an annotation file in the SONYC-UST layout (v1 or v2).

    Parameters
    ----------
    path : Path
        CSV with ``split, sensor_id, audio_filename, annotator_id`` and a ``<label>_presence`` column for
        every label of the taxonomy. Other columns (proximity, v2's time and place) are not read.
    taxonomy : Taxonomy
        The labels wanted.

    Returns
    -------
    pandas.DataFrame
        `KEYS` (annotator_id as int) and one int8 column per label named after it, coarse first: 1 heard,
        0 not heard, -1 not asked in this row. Rows as in the file.

    Raises
    ------
    UserError
        Listing every problem: missing or unknown columns, presence other than 1, 0 or -1, unusable file
        names, unknown splits, a clip in two splits, two ground-truth rows for a clip.
    """
    table = _read_text(path)
    _check_columns(path, table, taxonomy)
    problems: list[str] = []
    columns: dict[str, object] = {key: table[key].str.strip() for key in KEYS}
    annotator = pd.to_numeric(columns["annotator_id"], errors="coerce")
    whole = annotator.notna() & (annotator % 1 == 0) & (annotator.abs() < 2**31)
    problems += _rows("annotator_id", columns["annotator_id"], ~whole, "a whole number")
    columns["annotator_id"] = annotator.where(whole, 0).astype(np.int64)
    problems += _rows(
        "split", columns["split"], ~columns["split"].isin(SPLITS), "one of " + ", ".join(SPLITS)
    )
    names = columns["audio_filename"]
    problems += _rows(
        "audio_filename", names, ~names.map(_is_file_name), "a plain file name ending in .wav, .flac or .ogg"
    )
    for label in taxonomy.labels:
        text = table[f"{label}_presence"]
        value = pd.to_numeric(text, errors="coerce")
        allowed = value.isin([-1, 0, 1])
        problems += _rows(f"{label}_presence", text, ~allowed, "1, 0 or -1")
        columns[label] = value.where(allowed, 0).astype(np.int8)
    annotations = pd.DataFrame(columns)
    problems += _inconsistent_clips(annotations)
    if problems:
        raise UserError(f"{path}: {len(problems)} problem(s), please correct the file:\n{listing(problems)}")
    return annotations


def ground_truth(annotations: pd.DataFrame, split: str) -> pd.DataFrame:
    """The agreed rows (annotator 0) of a split, sorted by audio_filename.

    Raises
    ------
    UserError
        If the split has no such row: there is nothing to score against.
    """
    rows = annotations[(annotations["split"] == split) & (annotations["annotator_id"] == GROUND_TRUTH)]
    if rows.empty:
        raise UserError(f"the split '{split}' has no ground-truth rows (annotator_id 0) to score against")
    return rows.sort_values("audio_filename", kind="stable").reset_index(drop=True)


def unverified(annotations: pd.DataFrame, split: str) -> list[str]:
    """The clips of a split that have no ground truth."""
    rows = annotations[annotations["split"] == split]
    clips = rows["audio_filename"]
    return sorted(set(clips) - set(clips[rows["annotator_id"] == GROUND_TRUTH]))


def _read_text(path: Path) -> pd.DataFrame:
    table = read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    table.columns = table.columns.str.strip().map(nfc)
    if table.empty:
        raise UserError(f"{path}: has no annotation rows")
    return table


def _check_columns(path: Path, table: pd.DataFrame, taxonomy: Taxonomy) -> None:
    wanted = [*KEYS, *(f"{label}_presence" for label in taxonomy.labels)]
    missing = [name for name in wanted if name not in table.columns]
    unknown = [name for name in table.columns if name.endswith("_presence") and name not in wanted]
    twice = sorted(set(table.columns[table.columns.duplicated()]))
    if missing or unknown or twice:
        problems = [
            f"{len(names)} column(s) {what}: {some(names)}"
            for names, what in (
                (missing, "are missing"),
                (unknown, "name a label that the taxonomy does not have"),
                (twice, "stand twice"),
            )
            if names
        ]
        raise UserError(
            f"{path}: these are no annotations of the taxonomy, or damaged ones:\n{listing(problems)}"
        )


def _rows(column: str, text: pd.Series, bad: pd.Series, wanted: str) -> list[str]:
    # Row numbers as a text editor shows them: the header is line 1.
    return [f"line {row + 2}: {column} is {text[row]!r}, should be {wanted}" for row in np.flatnonzero(bad)]


def _is_file_name(name: str) -> bool:
    plain = PurePosixPath(name).name == name and "\\" not in name and name.isprintable()
    return plain and name not in ("", ".", "..") and name.lower().endswith(AUDIO_SUFFIXES)


def _inconsistent_clips(annotations: pd.DataFrame) -> list[str]:
    problems = []
    clips = annotations.groupby("audio_filename", sort=True)
    splits = clips["split"].unique()
    for name, found in splits[splits.map(len) > 1].items():
        problems.append(f"clip {name} is in the splits {' and '.join(sorted(found))}, should be in one")
    truth = annotations.loc[annotations["annotator_id"] == GROUND_TRUTH, "audio_filename"].value_counts()
    for name in sorted(truth[truth > 1].index):
        problems.append(f"clip {name} has {truth[name]} ground-truth rows (annotator_id 0), should have one")
    return problems
