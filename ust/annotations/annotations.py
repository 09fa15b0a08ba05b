"""Read and check ``annotations.csv``, the labels that each annotator gave each clip."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ust.annotations.taxonomy import Taxonomy
from ust.audio.suffixes import is_audio
from ust.util.documents import read_yaml
from ust.util.errors import UserError, bullet_list, plural, shorten
from ust.util.names import SPLITS, nfc
from ust.util.tables import LineNumbers, read_csv

log = logging.getLogger("ust")
CoarseMode = Literal["from_fine", "as_given"]
FROM_FINE: CoarseMode = "from_fine"
AS_GIVEN: CoarseMode = "as_given"

KEYS = ("split", "sensor_id", "audio_filename", "annotator_id")
GROUND_TRUTH = 0  # annotator_id of the agreed labels; volunteers are positive, team members negative


def read_coarse_mode(params: Path) -> CoarseMode:
    """Return ``data.coarse`` of a parameter file, `FROM_FINE` where the file or the parameter is missing."""
    data = read_yaml(params).get("data") if params.exists() else None
    coarse = data.get("coarse", FROM_FINE) if isinstance(data, dict) else FROM_FINE
    if coarse not in get_args(CoarseMode):
        allowed = ", ".join(get_args(CoarseMode))
        raise UserError(f"{params}: data.coarse is {coarse!r}, should be one of {allowed}")
    return coarse


def read_annotations(path: Path, taxonomy: Taxonomy, coarse: CoarseMode = FROM_FINE) -> pd.DataFrame:
    """Read an annotation file in the SONYC-UST layout (v1 or v2).

    SONYC-UST defines a coarse label as the maximum of its fine labels. Version 0.1 of the data set violates
    this for ``2_machinery-impact``, which is 1 wherever ``3-1_non-machinery-impact`` is (change log of 0.4).
    Such values are corrected in the returned table and reported in the log; the file is not changed.

    Parameters
    ----------
    path : Path
        CSV with ``split, sensor_id, audio_filename, annotator_id`` and a ``<label>_presence`` column for
        every label of the taxonomy. Other columns (proximity, v2's time and place) are not read.
    taxonomy : Taxonomy
        The labels to read.
    coarse : {"from_fine", "as_given"}
        ``from_fine``: a coarse value that contradicts the row's fine values of its group is replaced by their
        maximum (see `correct_coarse`). ``as_given``: values are kept, for comparison with results on version
        0.1.

    Returns
    -------
    pandas.DataFrame
        One row per row of the file: the columns `KEYS` (annotator_id as int), then an int8 column per label,
        coarse first, with 1 for present, 0 for absent and -1 for not asked.

    Raises
    ------
    UserError
        Lists every problem: missing or unknown columns, presence values other than 1, 0 and -1, invalid file
        names, unknown splits, a clip in two splits, two ground-truth rows for a clip.
    """
    annotations = _parse(path, _read_text(path), taxonomy)
    return correct_coarse(annotations, taxonomy) if coarse == FROM_FINE else annotations


def correct_coarse(annotations: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """Replace coarse values that contradict the fine values of their row by the maximum of the fine values.

    A coarse value contradicts its fine values if one of them is 1 and the coarse value is not, or if it is 1
    and all of them are 0. It is kept if the fine values do not determine it: all are -1, or some are -1 and
    the others 0. A coarse -1 with fine zeros is kept, too, because the annotator was not asked for the group.

    Parameters
    ----------
    annotations : pandas.DataFrame
        A table with a column per label; it is not modified.

    Returns
    -------
    pandas.DataFrame
        A corrected copy. The number of changed rows per split is logged for each coarse label.
    """
    corrected = annotations.copy()
    for group, label in enumerate(taxonomy.coarse):
        members = taxonomy.fine_labels(group)
        if not members:
            continue
        fine, values = annotations[members].to_numpy(), annotations[label].to_numpy()
        present, absent = (fine == 1).any(axis=1), (fine == 0).all(axis=1)
        wrong = (present & (values != 1)) | (absent & (values == 1))
        if wrong.any():
            corrected[label] = np.where(wrong, present, values).astype(values.dtype)
            counts = annotations.loc[wrong, "split"].value_counts()
            rows = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS if split in counts)
            log.info(
                "%s_presence contradicts its fine columns in %s row(s); the maximum of the fine columns is "
                "used (data.coarse)",
                label,
                rows,
            )
    return corrected


def read_ground_truth(
    path: Path, taxonomy: Taxonomy, split: str, coarse: CoarseMode = FROM_FINE
) -> tuple[pd.DataFrame, list[str]]:
    """Read the ground truth of a split, from an annotation file or from a file of ground truth only."""
    table = _read_text(path)
    if "split" not in table.columns:
        table.insert(0, "split", split)
    if not {f"{label}_presence" for label in taxonomy.fine} & set(table.columns):
        taxonomy = replace(taxonomy, fine=(), group=())
    annotations = _parse(path, table, taxonomy)
    if coarse == FROM_FINE:
        annotations = correct_coarse(annotations, taxonomy)
    return select_ground_truth(annotations, split), find_clips_without_ground_truth(annotations, split)


def _parse(path: Path, table: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """Check a table of strings and convert it to `KEYS` and a column per label."""
    _check_columns(path, table, taxonomy)
    problems: list[str] = []
    lines = LineNumbers(path)
    columns: dict[str, object] = {key: table[key].str.strip() for key in KEYS}
    annotator = pd.to_numeric(columns["annotator_id"], errors="coerce")
    whole = annotator.notna() & (annotator % 1 == 0) & (annotator.abs() < 2**31)
    problems += _list_wrong_rows(lines, "annotator_id", columns["annotator_id"], ~whole, "a whole number")
    columns["annotator_id"] = annotator.where(whole, 0).astype(np.int64)
    problems += _list_wrong_rows(
        lines, "split", columns["split"], ~columns["split"].isin(SPLITS), "one of " + ", ".join(SPLITS)
    )
    names = columns["audio_filename"]
    problems += _list_wrong_rows(
        lines,
        "audio_filename",
        names,
        ~names.map(_is_file_name),
        "a plain file name of a recording, such as 01_0123.wav",
    )
    for label in taxonomy.labels:
        text = table[f"{label}_presence"]
        value = pd.to_numeric(text, errors="coerce")
        allowed = value.isin([-1, 0, 1])
        problems += _list_wrong_rows(lines, f"{label}_presence", text, ~allowed, "1, 0 or -1")
        columns[label] = value.where(allowed, 0).astype(np.int8)
    annotations = pd.DataFrame(columns)
    problems += _list_inconsistent_clips(annotations)
    if problems:
        raise UserError(
            f"{path}: {plural(len(problems), 'problem')}, please correct the file:\n{bullet_list(problems)}"
        )
    return annotations


def select_ground_truth(annotations: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the ground-truth rows (annotator 0) of a split, sorted by audio_filename.

    Raises
    ------
    UserError
        If the split has no ground truth.
    """
    rows = annotations[(annotations["split"] == split) & (annotations["annotator_id"] == GROUND_TRUTH)]
    if rows.empty:
        raise UserError(f"the split '{split}' has no ground-truth rows (annotator_id 0) to score against")
    return rows.sort_values("audio_filename", kind="stable").reset_index(drop=True)


def map_clips_to_sensors(annotations: pd.DataFrame) -> dict[str, str]:
    """Return the sensor_id of each clip, by audio_filename."""
    return annotations.groupby("audio_filename")["sensor_id"].first().to_dict()


def require_ground_truth(annotations: pd.DataFrame, splits: Iterable[str], where: Any) -> None:
    """Check that every split that will be evaluated has ground truth."""
    clips = annotations.groupby("split")["audio_filename"].nunique()
    verified = set(annotations.loc[annotations["annotator_id"] == GROUND_TRUTH, "split"])
    problems = [
        f"the split '{split}' has {clips.get(split, 0):,} clip(s), none with ground truth"
        for split in dict.fromkeys(splits)
        if split not in verified
    ]
    if problems:
        raise UserError(
            f"{where}: metrics need ground truth, one row with annotator_id 0 for each clip that is scored:\n"
            f"{bullet_list(problems)}\nadd these rows: the labels that the annotators agreed on, or those of "
            "one trusted annotator; labels of several annotators are never used as ground truth"
        )


def find_clips_without_ground_truth(annotations: pd.DataFrame, split: str) -> list[str]:
    """Return the sorted clips of a split that have no ground truth."""
    rows = annotations[annotations["split"] == split]
    clips = rows["audio_filename"]
    return sorted(set(clips) - set(clips[rows["annotator_id"] == GROUND_TRUTH]))


def _read_text(path: Path) -> pd.DataFrame:
    """Read an annotation file without converting its values."""
    table = read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    table.columns = table.columns.str.strip().map(nfc)
    if table.empty:
        raise UserError(f"{path}: has no annotation rows")
    return table


def _check_columns(path: Path, table: pd.DataFrame, taxonomy: Taxonomy) -> None:
    """Check that the columns are those of the taxonomy, each once."""
    expected = [*KEYS, *(f"{label}_presence" for label in taxonomy.labels)]
    missing = [name for name in expected if name not in table.columns]
    unknown = [name for name in table.columns if name.endswith("_presence") and name not in expected]
    duplicates = sorted(set(table.columns[table.columns.duplicated()]))
    if missing or unknown or duplicates:
        problems = [
            f"{len(names)} column(s) {problem}: {shorten(names)}"
            for names, problem in (
                (missing, "are missing"),
                (unknown, "name a label that the taxonomy does not have"),
                (duplicates, "are duplicates"),
            )
            if names
        ]
        raise UserError(
            f"{path}: the columns do not match the taxonomy, or the file is damaged:\n{bullet_list(problems)}"
        )


def _list_wrong_rows(
    lines: LineNumbers, column: str, text: pd.Series, wrong: pd.Series, expected: str
) -> list[str]:
    """Return a message for each wrong cell of a column."""
    return [
        f"line {lines[row]}: {column} is {text[row]!r}, should be {expected}" for row in np.flatnonzero(wrong)
    ]


def _is_file_name(name: str) -> bool:
    """Return whether a string is the plain name of an audio file, without a folder."""
    plain = PurePosixPath(name).name == name and "\\" not in name and name.isprintable()
    return plain and is_audio(name)


def _list_inconsistent_clips(annotations: pd.DataFrame) -> list[str]:
    """Return a message for each clip in two splits or with two ground-truth rows."""
    problems = []
    clips = annotations.groupby("audio_filename", sort=True)
    splits = clips["split"].unique()
    for name, several in splits[splits.map(len) > 1].items():
        problems.append(f"clip {name} is in the splits {' and '.join(sorted(several))}, should be in one")
    truth = annotations.loc[annotations["annotator_id"] == GROUND_TRUTH, "audio_filename"].value_counts()
    for name in sorted(truth[truth > 1].index):
        problems.append(f"clip {name} has {truth[name]} ground-truth rows (annotator_id 0), should have one")
    return problems
