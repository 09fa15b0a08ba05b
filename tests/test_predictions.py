"""Prediction files: the official layout, and what is wrong with others."""

import numpy as np
import pandas as pd
import pytest

from ust.errors import UserError
from ust.predictions import read_predictions, write_predictions

CLIPS = ["a.wav", "b.wav", "c.wav"]


@pytest.fixture
def predictions(tmp_path, taxonomy):
    path = tmp_path / "predictions.csv"
    values = np.random.default_rng(0).random((3, 37)).round(6)
    write_predictions(path, CLIPS[::-1], values, taxonomy)
    return path, values[::-1]


def test_layout_is_the_official_one(predictions, taxonomy):
    path, values = predictions
    table = pd.read_csv(path)
    assert list(table.columns) == ["audio_filename", *taxonomy.fine, *taxonomy.coarse]
    assert table["audio_filename"].tolist() == CLIPS
    np.testing.assert_array_equal(table[list(taxonomy.labels)], values)


def test_round_trip(predictions, taxonomy):
    path, values = predictions
    table, missing = read_predictions(path, CLIPS, taxonomy)
    np.testing.assert_array_equal(table.to_numpy(), values)
    assert list(table.columns) == list(taxonomy.labels)
    assert missing == []


def test_a_missing_column_is_zeros(predictions, taxonomy):
    path, _ = predictions
    pd.read_csv(path).drop(columns="8_dog").to_csv(path, index=False)
    table, missing = read_predictions(path, CLIPS, taxonomy)
    assert missing == ["8_dog"]
    assert (table["8_dog"] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["audio_filename"] != "b.wav"], "clip b.wav is missing"),
        (
            lambda t: pd.concat([t, t.replace("b.wav", "z.wav").iloc[1:2]]),
            "clip z.wav is not one of the split's",
        ),
        (lambda t: pd.concat([t, t.iloc[:1]]), "clip a.wav is there more than once"),
        (lambda t: t.assign(**{"8_dog": [0.1, 1.2, 0.3]}), "line 3: 8_dog is 1.2, should be in [0, 1]"),
        (lambda t: t.assign(**{"8_dog": [-0.1, 0, 0]}), "line 2: 8_dog is -0.1"),
        (lambda t: t.assign(**{"8_dog": [0, 0, np.nan]}), "line 4: 8_dog is nan"),
        (lambda t: t.assign(**{"8_dog": ["x", "0", "0"]}), "line 2: 8_dog is x"),
        (lambda t: t.rename(columns={"audio_filename": "file"}), "column 'audio_filename' is missing"),
    ],
)
def test_what_is_wrong_is_listed(predictions, taxonomy, change, message):
    path, _ = predictions
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(UserError) as error:
        read_predictions(path, CLIPS, taxonomy)
    assert message in str(error.value)
