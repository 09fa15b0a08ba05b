"""Prediction files: the official layout and the errors of other files."""

import numpy as np
import pandas as pd
import pytest

from ust.evaluation.predictions import read_predictions, write_predictions
from ust.util.errors import UserError

CLIPS = ["a.wav", "b.wav", "c.wav"]


@pytest.fixture
def predictions(tmp_path, taxonomy):
    path = tmp_path / "predictions.csv"
    values = np.random.default_rng(0).random((3, 37)).round(6)
    write_predictions(path, CLIPS[::-1], values, taxonomy)
    return path, values[::-1]


def test_predictions_have_the_official_columns(predictions, taxonomy):
    path, values = predictions
    table = pd.read_csv(path)
    assert list(table.columns) == ["audio_filename", *taxonomy.fine, *taxonomy.coarse]
    assert table["audio_filename"].tolist() == CLIPS
    np.testing.assert_array_equal(table[list(taxonomy.labels)], values)


def test_predictions_round_trip_through_csv(predictions, taxonomy):
    """Columns that are no labels are ignored."""
    path, values = predictions
    pd.read_csv(path).assign(sensor_id=3, note="x").to_csv(path, index=False)
    table, missing = read_predictions(path, CLIPS, taxonomy)
    np.testing.assert_array_equal(table.to_numpy(), values)
    assert list(table.columns) == list(taxonomy.labels)
    assert missing == []


def test_missing_column_is_filled_with_zeros(predictions, taxonomy):
    path, _ = predictions
    pd.read_csv(path).drop(columns="8_dog").to_csv(path, index=False)
    table, missing = read_predictions(path, CLIPS, taxonomy)
    assert missing == ["8_dog"]
    assert (table["8_dog"] == 0).all()


def without_number(column):
    """Return the name of a label without its number."""
    return column if column == "audio_filename" else column.split("_")[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["audio_filename"] != "b.wav"], "1 clip(s) of the split are missing: b.wav"),
        (lambda t: pd.concat([t, t.iloc[1:2].replace("b.wav", "z.wav")]), "1 clip(s) are not the split's: z"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "1 clip(s) are there more than once: a.wav"),
        (lambda t: t.assign(**{"8_dog": [0.1, 1.2, 0.3]}), "line 3: 8_dog is 1.2, should be in [0, 1]"),
        (lambda t: t.assign(**{"8_dog": [-0.1, 0, 0]}), "line 2: 8_dog is -0.1"),
        (lambda t: t.assign(**{"8_dog": [0, 0, np.nan]}), "line 4: 8_dog is nan"),
        (lambda t: t.assign(**{"8_dog": ["x", "0", "0"]}), "line 2: 8_dog is x"),
        (lambda t: t.rename(columns={"audio_filename": "file"}), "column 'audio_filename' is missing"),
        (lambda t: t.rename(columns=without_number), "there is no label"),
        (lambda t: t.rename(columns={"1_engine": "engine"}), "there is no label 'engine' (1_engine?)"),
        (lambda t: t.rename(columns={"1_engine": "1_engin"}), "there is no label '1_engin' (1_engine?)"),
        (lambda t: t[["audio_filename"]].assign(foo=1, bar=2), "has a column for none of the labels"),
        (lambda t: t[["audio_filename"]], "it has no other column"),
        (lambda t: t.assign(annotator_id=1), "these are annotations"),
        (lambda t: t.assign(split="validate"), "these are labels"),
    ],
)
def test_what_is_wrong_with_predictions_is_named(predictions, taxonomy, change, message):
    path, _ = predictions
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(UserError) as error:
        read_predictions(path, CLIPS, taxonomy)
    assert message in str(error.value)
    first, *rest = str(error.value).splitlines()
    assert len(rest) == ("1 problem:" in first)  # a line for the clips and values, none for the columns


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
@pytest.mark.parametrize("decimal", [".", ","])
def test_other_separator_is_named(predictions, taxonomy, separator, name, decimal):
    path, _ = predictions
    pd.read_csv(path).to_csv(path, index=False, sep=separator, decimal=decimal)
    with pytest.raises(UserError, match=f"separated by {name}, should be by commas"):
        read_predictions(path, CLIPS, taxonomy)


def test_clips_without_truth_are_ignored(predictions, taxonomy):
    path, values = predictions
    table, _ = read_predictions(path, ["c.wav", "a.wav"], taxonomy, others=["b.wav"])
    np.testing.assert_array_equal(table.to_numpy(), values[[2, 0]])
    with pytest.raises(UserError, match=r"not the split's: b\.wav"):
        read_predictions(path, ["c.wav", "a.wav"], taxonomy, others=["d.wav"])
