"""Tagging by and export of a head with AudioSet's classes as prior."""

import csv
import io

import numpy as np
import pytest
import torch
from conftest import RATE

from ust.annotations.audioset import sonyc_taxonomy
from ust.cli import tag
from ust.features.efficientat.weights import draw_random_weights
from ust.models.audioset_head import AudioSetHead
from ust.models.checkpoints import SavedNetwork, load_network, save_network
from ust.tagging import export
from ust.tagging.audioset import INFERENCE_OPTIONS, prepare_audioset
from ust.tagging.pretrained import pack
from ust.tagging.tagger import Tagger


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A packed system with a fitted head on a network with random weights."""
    monkeypatch.setenv("UST_CACHE", str(tmp_path / "cache"))
    torch.save(draw_random_weights(3, 0.1), tmp_path / "mn01.pt")
    untrained = prepare_audioset(checkpoint=tmp_path / "mn01.pt")
    zero_shot, taxonomy = load_network(untrained / "system"), sonyc_taxonomy()
    config = AudioSetHead.Config().complete_for_labels(taxonomy, taxonomy.labels)
    network = AudioSetHead(config, 37, zero_shot.shapes)
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.standard_normal((50, *zero_shot.shapes["embedding"])).astype(np.float32))
    targets = torch.from_numpy(rng.random((50, 37)).astype(np.float32))
    network.fit(values, targets, weight_decay=0.01, clips=50)
    metadata, labels = zero_shot.metadata | {"converged": True}, list(taxonomy.labels)
    saved = SavedNetwork(network, "audioset_head", config, labels, metadata, zero_shot.shapes)
    save_network(tmp_path / "model", saved)
    packed = tmp_path / "packed"
    packed.mkdir()
    pack(packed, "prior", tmp_path / "model", untrained / "pretrained", INFERENCE_OPTIONS)
    return packed


@pytest.mark.whole
def test_it_is_exported_as_a_graph(system, tmp_path, noise):
    tagger = Tagger.load(system, fast=False)
    export.export_onnx(tagger, tmp_path / "a.onnx", properties={"system": "prior"})
    clips = [noise, 0.1 * np.sin(np.arange(10 * RATE) / 20).astype(np.float32), 0 * noise]
    assert (
        export.compare_with_pytorch(tmp_path / "a.onnx", tagger, clips, threads=1).max_error_end_to_end < 1e-4
    )


def test_it_tags(system, wav, noise, capsys):
    tag.main(argv=[str(wav()), "--system", str(system), "--format", "csv"])
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    found = [float(row[label]) for label in sonyc_taxonomy().labels]
    np.testing.assert_allclose(found, Tagger.load(system).predict(noise, RATE), atol=1e-4)
