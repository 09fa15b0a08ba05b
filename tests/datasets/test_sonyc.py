"""SONYC-UST releases from a local server: layouts, caching and checks before the download."""

import json
import logging
import shutil
import sys
from dataclasses import replace

import pandas as pd
import pytest
import soundfile as sf
from conftest import ROOT
from project import change_params
from records import IMPACT, LAYOUTS, MACHINERY, RECORDS, md5, serve_records

from stages import download
from ust.annotations.annotations import read_annotations
from ust.annotations.taxonomy import read_taxonomy
from ust.cli.parameters import check_params
from ust.datasets import sonyc
from ust.datasets.registry import read_scored_splits
from ust.datasets.synthetic.city import build_city
from ust.util.errors import UserError

CLIPS = {"train": 4, "validate": 5}
TESTS = 2  # of the validate clips


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """A city with short clips in which some volunteers marked non-machinery impacts."""
    folder = tmp_path_factory.mktemp("city")
    build_city(folder, seed=3, clips=CLIPS)
    table = pd.read_csv(folder / "annotations.csv", dtype=str, keep_default_na=False)
    some = table["annotator_id"].isin(["0"]) | (table.index % 3 == 0)
    table.loc[some & (table[MACHINERY] == "0"), [IMPACT, "3_non-machinery-impact_presence"]] = "1"
    table.to_csv(folder / "annotations.csv", index=False)
    for path in (folder / "audio").rglob("*.wav"):
        samples, rate = sf.read(path)
        sf.write(path, samples[:rate], rate)
    return folder


@pytest.fixture
def records(server, city, monkeypatch, tmp_path):
    """The three records on a local server, with the checksums of their files."""
    files = serve_records(server, city, tests=TESTS)
    rows = sonyc.RELEASES["sonyc-ust-v1"]
    known = {name: md5(files["0.1"][name]) for name in rows["0.1"].md5}
    first = replace(rows["0.1"], md5=known, clips={})
    monkeypatch.setitem(
        sonyc.RELEASES, "sonyc-ust-v1",
        {"0.1": first, **{name: replace(rows[name], clips={}) for name in ("0.2", "1.0")}},
    )  # fmt: skip
    monkeypatch.setenv("UST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UST_ZENODO", server.url)
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    return files


@pytest.fixture
def run_download(tmp_path, monkeypatch, caplog):
    """A function that runs the stage download with keys of the section data changed; returns its folder."""
    caplog.set_level(logging.INFO, "ust")
    count = iter(range(100))

    def run(source, others=(), **changes):
        out = tmp_path / f"raw{next(count)}"
        names = {f"data.{name}": value for name, value in changes.items()}
        names |= {"data.source": source} | dict(others)
        change_params(ROOT / "params.yaml", tmp_path / "params.yaml", names)
        monkeypatch.setattr(sys, "argv", ["download", str(out), "--params", str(tmp_path / "params.yaml")])
        download.main()
        return out

    return run


def clips_of(out):
    return {path.name: sum(1 for _ in path.iterdir()) for path in sorted((out / "audio").iterdir())}


@pytest.mark.whole
@pytest.mark.parametrize("version", LAYOUTS)
def test_each_release_is_read_in_its_layout(records, run_download, server, city, caplog, version):
    out = run_download("sonyc-ust-v1", release=version)
    wanted = {"train": CLIPS["train"], "validate": CLIPS["validate"] - TESTS}
    assert clips_of(out) == (wanted | {"test": TESTS} if version == "1.0" else wanted)
    for path in (out / "audio").rglob("*.wav"):
        assert path.read_bytes() == next((city / "audio").rglob(path.name)).read_bytes()
    name = "annotations-dev.csv" if version == "0.2" else "annotations.csv"
    assert (out / "annotations.csv").read_bytes() == records[version][name]  # as it was published
    metadata = json.loads((out / "dataset.json").read_text())
    wanted = {"source": "sonyc-ust-v1", "release": version, "coarse": "from_fine"}
    assert metadata.items() >= wanted.items()
    records_used = {request.split("/")[2] for request in server.requests if "/files/" in request}
    assert records_used == {str(RECORDS[version])}
    text = caplog.text
    assert ("contradicts its fine columns" in text) == (version != "1.0")
    assert ("have no annotations and are left out" in text) == (version == "0.2")
    if version == "0.2":  # nothing of it could be used
        assert not any("audio-eval" in request for request in server.requests)


def test_latest_release_is_the_default_and_numbers_are_accepted(records, run_download):
    out = run_download("sonyc-ust-v1")
    assert json.loads((out / "dataset.json").read_text())["release"] == "1.0"
    out = run_download("sonyc-ust-v1", release=0.1)  # as YAML and dvc exp run -S read it
    assert json.loads((out / "dataset.json").read_text())["release"] == "0.1"


def test_records_are_cached_separately(records, run_download, server):
    """Returning to the first release downloads nothing."""
    first = run_download("sonyc-ust-v1", release="0.1")
    run_download("sonyc-ust-v1", release="1.0")
    before = len(server.requests)
    again = run_download("sonyc-ust-v1", release="0.1")
    assert len(server.requests) == before
    assert clips_of(again) == clips_of(first)
    assert (again / "annotations.csv").read_bytes() == records["0.1"]["annotations.csv"]
    for path in (again / "audio").rglob("*.wav"):
        assert f"zenodo-{RECORDS['0.1']}" in str(path.resolve())


def test_coarse_labels_of_release_0_1_are_corrected_unless_as_given(records, run_download, caplog):
    out = run_download("sonyc-ust-v1", release="0.1", coarse="as_given")
    assert "contradicts" not in caplog.text
    assert json.loads((out / "dataset.json").read_text())["coarse"] == "as_given"
    taxonomy = read_taxonomy(out / "dcase-ust-taxonomy.yaml")
    given, found = (read_annotations(out / "annotations.csv", taxonomy, c) for c in ("as_given", "from_fine"))
    latest = run_download("sonyc-ust-v1", release="1.0")
    last = read_annotations(latest / "annotations.csv", taxonomy, "as_given")
    last = last[last["split"] != "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.reset_index(drop=True), last)
    assert not given.equals(found)


def test_missing_ground_truth_stops_before_audio_is_downloaded(records, run_download, server):
    with pytest.raises(UserError, match=r"the split 'test' has 0 clip\(s\), none with ground truth"):
        run_download("sonyc-ust-v1", release="0.2", others={"evaluate.split": "test"})
    assert not any("audio" in request for request in server.requests)
    run_download("sonyc-ust-v1", release="1.0", others={"evaluate.split": "test"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data.source": "sonyc-ust-v1", "data.release": "0.3"},
            "data.release '0.3' is none of sonyc-ust-v1's releases; it has 0.1, 0.2, 1.0",
        ),
        ({"data.source": "sonyc-ust-v2", "data.release": "1.0"}, "it has 2.3"),
        (
            {"data.release": "0.1"},
            "source 'synthetic' has no releases; set it to null, or data.source to sonyc",
        ),
        ({"data.coarse": "max"}, "data.coarse: is 'max', should be 'from_fine' or 'as_given'"),
    ],
)
def test_unknown_release_is_refused(tmp_path, changes, message):
    change_params(ROOT / "params.yaml", tmp_path / "params.yaml", changes)
    with pytest.raises(UserError) as error:
        check_params(tmp_path / "params.yaml")
    assert message in str(error.value)


def test_scored_splits_are_those_with_ground_truth(tmp_path):
    path = tmp_path / "params.yaml"
    for text, wanted in (
        ("data: {}", ("validate",)),
        ("evaluate: {split: test}", ("validate", "test")),
        ("predict: {split: test}\nevaluate: {split: validate}", ("validate", "test")),
    ):
        path.write_text(text)
        assert read_scored_splits(path) == wanted


class TestLocal:
    """Folders with annotations of several annotators."""

    @pytest.fixture
    def folder(self, city, tmp_path):
        table = pd.read_csv(city / "annotations.csv", dtype=str, keep_default_na=False)
        root = tmp_path / "local"
        root.mkdir()
        shutil.copytree(city / "audio", root / "audio")
        (root / "dcase-ust-taxonomy.yaml").write_bytes((city / "dcase-ust-taxonomy.yaml").read_bytes())
        return root, table

    def test_download_refuses_a_scored_split_without_ground_truth(self, folder, run_download, tmp_path):
        root, table = folder
        table[table["annotator_id"].astype(int) > 0].to_csv(root / "annotations.csv", index=False)
        with pytest.raises(UserError) as error:
            run_download("local", path=str(root))
        message = str(error.value)
        assert "annotations.csv: metrics need ground truth, one row with annotator_id 0" in message
        assert "the split 'validate' has 5 clip(s), none with ground truth" in message
        assert not (tmp_path / "raw0").exists()

    def test_partial_ground_truth_is_enough(self, folder, run_download):
        """SONYC-UST v2 has ground truth for a part of its clips."""
        root, table = folder
        true = table[table["annotator_id"] == "0"]
        table.drop(true.index[1:]).to_csv(root / "annotations.csv", index=False)
        assert clips_of(run_download("local", path=str(root))) == CLIPS

    def test_folder_without_the_scored_split_is_refused(self, folder, run_download):
        root, table = folder
        table.to_csv(root / "annotations.csv", index=False)
        run_download("local", path=str(root))
        with pytest.raises(UserError, match="the split 'test' has 0 clip"):
            run_download("local", path=str(root), others={"predict.split": "test"})
