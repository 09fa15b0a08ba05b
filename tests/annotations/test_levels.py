"""Taxonomies with one level, and with groups that have no fine labels."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from conftest import ROOT
from oracle import score as slow_score
from project import Project, change_params

from ust.annotations.taxonomy import Taxonomy, label_name, read_taxonomy
from ust.datasets.importing import taxonomy_from_classes
from ust.evaluation.curves import curves
from ust.evaluation.evaluation import Evaluation, detailed_metrics, headline_metrics
from ust.models.outputs import complete_labels, groups_with_classifier, output_labels
from ust.reports.tables import results_table, table_row
from ust.util.documents import write_yaml

ONE = ("tram", "bell", "market")
MIXED = ("tram", "market: voices", "market: cart", "bell")


@pytest.fixture(params=[ONE, MIXED], ids=["one", "mixed"])
def taxonomy(request, tmp_path):
    write_yaml(tmp_path / "t.yaml", taxonomy_from_classes(request.param))
    return read_taxonomy(tmp_path / "t.yaml")


@pytest.fixture
def evaluation(taxonomy):
    rng = np.random.default_rng(0)
    labels = list(taxonomy.labels)
    truth = pd.DataFrame((rng.random((50, len(labels))) < 0.3).astype(int), columns=labels)
    truth.insert(0, "sensor_id", rng.integers(0, 5, 50))
    return Evaluation.from_tables(
        truth, pd.DataFrame(rng.random((50, len(labels))), columns=labels), taxonomy
    )


def test_levels_without_labels_are_omitted(taxonomy):
    assert taxonomy.levels == (("coarse",) if len(taxonomy.labels) == 3 else ("fine", "coarse"))
    assert taxonomy.categories("coarse") == [label_name(label) for label in taxonomy.coarse]
    assert taxonomy.categories("fine") == (["market"] if taxonomy.fine else [])


def test_level_metrics_match_official_metrics_of_its_groups(evaluation, taxonomy):
    """Fine metrics equal those of a taxonomy with only the groups that have fine labels."""
    intervals = evaluation.intervals(count=10, seed=0)
    metrics = detailed_metrics(evaluation, intervals) | {"provenance": {}}
    for level in taxonomy.levels:
        groups = taxonomy.groups(level)
        members = [label for g in groups for label in taxonomy.fine_labels(g)]
        alone = Taxonomy(
            tuple(taxonomy.coarse[g] for g in groups),
            tuple(members) if level == "fine" else (),
            tuple(groups.index(g) for g in taxonomy.group) if level == "fine" else (),
        )
        micro, f1, macro, _ = slow_score(evaluation.truth[level], evaluation.predicted[level], alone, level)
        assert metrics[level]["micro_auprc"] == pytest.approx(micro)
        assert metrics[level]["macro_auprc"] == pytest.approx(macro)
        assert metrics[level]["micro_f1"] == pytest.approx(f1)
    absent = {"fine", "coarse"} - set(taxonomy.levels)
    for level in absent:
        assert level not in metrics
        assert level not in metrics["ci95"]["clips"]
    assert set(headline_metrics(evaluation)) == set(taxonomy.levels)
    assert set(metrics["labels"]) == set(taxonomy.labels)
    assert not any(name.startswith(level) for level in absent for name in curves(evaluation, intervals))
    shown = table_row("a", metrics).values
    assert [value is None for value in shown] == [not taxonomy.fine] * 3 + [False] * 3
    cells = results_table({"a": metrics})["rows"][0]["cells"]
    assert [cell["text"] == "–" for cell in cells] == [value is None for value in shown]


def test_finest_labels_determine_all_levels(taxonomy):
    finest = output_labels("fine", taxonomy)
    assert finest == (
        ["1_tram", "2-1_voices", "2-2_cart", "3_bell"] if taxonomy.fine else list(taxonomy.coarse)
    )
    outputs = torch.rand(4, len(finest))
    found = complete_labels(outputs, finest, taxonomy)
    assert found.shape == (4, len(taxonomy.labels))
    for label, column in zip(finest, outputs.unbind(1), strict=True):
        assert torch.equal(found[:, taxonomy.labels.index(label)], column)
    if taxonomy.fine:
        market = found[:, taxonomy.labels.index("2_market")]
        assert torch.equal(market, outputs[:, 1:3].amax(dim=1))
    assert groups_with_classifier(taxonomy) == ([1] if taxonomy.fine else [])


@pytest.mark.whole
def test_class_folders_run_through_the_pipeline(tmp_path):
    """Every label is ground truth; label rules have no votes to learn from."""
    rng = np.random.default_rng(0)
    for kind in ("tram", "market/voices", "market/cart"):
        for index in range(6):
            path = tmp_path / "sounds" / kind / f"{index}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, 0.1 * rng.standard_normal(8000), 8000)
    (tmp_path / "sounds" / "tram" / "broken.wav").write_bytes(b"no sound")
    here = Project(tmp_path)
    here.environment |= {"PYTHONPATH": str(ROOT)}
    changes = {"data.source": "folder", "data.path": "sounds", "label_quality.bootstrap": 10}
    change_params(ROOT / "params.yaml", tmp_path / "params.yaml", changes)
    text = here.run("python", "-m", "stages.download", "raw", code=1)
    assert "set data.on_bad_audio" in text
    assert "broken.wav" in text
    change_params(tmp_path / "params.yaml", tmp_path / "params.yaml", {"data.on_bad_audio": "skip"})
    assert "train clips" in here.run("python", "-m", "stages.download", "raw")
    annotations = pd.read_csv(tmp_path / "raw" / "annotations.csv")
    assert set(annotations["annotator_id"]) == {0}
    for clip in annotations.itertuples():
        assert (tmp_path / "raw" / "audio" / clip.split / clip.audio_filename).is_file()
    assert set(annotations["split"]) == {"train", "validate"}
    words = ("raw/annotations.csv", "raw/dcase-ust-taxonomy.yaml")
    here.run("python", "-m", "stages.aggregate_labels", "majority", *words, "majority.csv")
    assert pd.read_csv(tmp_path / "majority.csv")["1_market"].sum() == 12
    text = here.run("python", "-m", "stages.label_quality", *words, "quality.json", "--details", "labels")
    assert "have no votes of volunteers" in text
    assert set(json.loads((tmp_path / "quality.json").read_text())) >= {"majority", "pooled"}
    assert pd.read_csv(tmp_path / "labels" / "doubtful.csv").empty
