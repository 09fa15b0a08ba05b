"""Time and place on the command line: one recording, and an archive with a table of sensors."""

import contextlib
import json
import logging
from dataclasses import asdict
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from tiny import ALONE, save_with_context

from ust.cli import tag, tag_archive
from ust.cli.console import log
from ust.features.context import Place
from ust.models.checkpoints import SavedNetwork, save_network
from ust.models.cnn import CNN
from ust.tagging.tagger import Tagger
from ust.util.errors import UserError

LOGMEL = {"sample_rate": 8000, "n_fft": 512, "hop_length": 128, "n_mels": 108, "versions": "any"}
NAMES = ("roof/20240301_150000.wav", "yard/20240301_235955.wav", "yard/street.wav")
ROOF = Place(40.7, -73.9, 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory, taxonomy):
    """A system below models/, recordings of twelve seconds in in/, and a table of one of their sensors."""
    folder = tmp_path_factory.mktemp("archive")
    save_with_context(folder / "models" / "cnn", taxonomy, LOGMEL, (108, 626))
    rng = np.random.default_rng(0)
    for name in NAMES:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(folder / "in" / name, 0.1 * rng.standard_normal(12 * 8000), 8000)
    (folder / "sensors.csv").write_text("sensor,latitude,longitude,borough\nroof,40.7,-73.9,3\n")
    return folder


def run(module, place, *words, system="cnn"):
    with contextlib.chdir(place):
        module.main(argv=[*map(str, words), "--system", system])


def test_an_archive_has_the_time_of_the_name_and_the_place_of_the_sensor(place):
    run(tag_archive, place, "in", "tagged", "--sensors", "sensors.csv", "--embeddings")
    run(tag_archive, place, "tagged", "anew", "--sensors", "sensors.csv")
    tagger = Tagger.load(place / "models" / "cnn")
    known = dict(zip(NAMES, [{"time": datetime(2024, 3, 1, 15), "place": ROOF},
                             {"time": datetime(2024, 3, 1, 23, 59, 55)}, {}], strict=True))  # fmt: skip
    for archive in ("tagged", "anew"):
        rows = pd.concat(pd.read_parquet(path) for path in sorted((place / archive / "tags").iterdir()))
        assert len(rows) == 6
        for name, context in known.items():
            found = rows[rows["path"].str.endswith(name)].sort_values("start")
            wanted = [window.probabilities for window in tagger.tag(place / "in" / name, hop=10, **context)]
            np.testing.assert_allclose(found[list(tagger.taxonomy.labels)], wanted, atol=1e-5)
            if context:
                without = [window.probabilities for window in tagger.tag(place / "in" / name, hop=10)]
                assert abs(np.subtract(wanted, without)).max() > 0.01


def test_an_archive_is_not_continued_with_other_places(place, tmp_path):
    run(tag_archive, place, "in", tmp_path / "tagged", "--sensors", "sensors.csv")
    with pytest.raises(UserError, match="created with another sensor table"):
        run(tag_archive, place, "in", tmp_path / "tagged")


def test_time_and_place_of_a_recording(place, tmp_path):
    words = (place / "in" / NAMES[2], "--format", "json", "--hop", 10, "--out", tmp_path / "a.json")
    run(tag, place, *words, "--time", "2026-07-04T15:00", "--place", "40.7,-73.9,Brooklyn")
    (recording,) = json.loads((tmp_path / "a.json").read_text())
    tagger = Tagger.load(place / "models" / "cnn")
    wanted = tagger.tag(place / "in" / NAMES[2], hop=10, time=datetime(2026, 7, 4, 15), place=ROOF)
    for found, window in zip(recording["windows"], wanted, strict=True):
        values = list(found["probabilities"].values())
        np.testing.assert_allclose(values, window.probabilities, atol=1e-3)
    with pytest.raises(UserError, match="the place is 'here'"):
        run(tag, place, *words, "--place", "here")


def test_a_system_without_context_warns(place, taxonomy, caplog, monkeypatch):
    metadata = {"taxonomy": asdict(taxonomy), "inputs": {"logmel": "logmel"}}
    metadata["features"] = {"logmel": {"kind": "logmel", **LOGMEL}}
    saved = SavedNetwork(CNN(ALONE, 37), "cnn", ALONE, list(taxonomy.labels), metadata)
    save_network(place / "models" / "plain", saved)
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.WARNING, logger=log.name)
    name, given = place / "in" / NAMES[0], ("--time", "2026-07-04T15:00")
    run(tag, place, name, "--format", "csv", *given, system="plain")
    run(tag_archive, place, "in", "plain", "--sensors", "sensors.csv", system="plain")
    assert caplog.text.count("plain was trained without time and place and ignores them") == 2
