"""Exported systems: each part of the graph against what it stands for, whole systems in onnxruntime."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import RATE

from ust.checkpoints import Checkpoint
from ust.end_to_end import LogMel, Resample
from ust.errors import UserError
from ust.export import compare, export
from ust.hierarchy import OTHER, ROOT, node_labels, parents
from ust.logmel import logmel
from ust.models import CNNVGGish, NetworkConfig
from ust.resampling import resample
from ust.systems import Flat, Hierarchy
from ust.tagger import Tagger

LOGMEL = {"sample_rate": RATE, "n_fft": 2048, "hop_length": 512, "n_mels": 128}


@pytest.fixture
def clips(noise):
    """Three clips: noise that rises, a tone that pulses, and silence [shape=(3, 441000), float32]."""
    time = np.arange(10 * RATE, dtype=np.float32) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 880 * time) * (np.sin(2 * np.pi * time) > 0)
    return np.stack([noise * time / 10, tone + 0.01 * noise, np.zeros_like(noise)]).astype(np.float32)


@pytest.fixture
def about(taxonomy):
    labels = {"coarse": taxonomy.coarse, "fine": taxonomy.fine, "group": taxonomy.group}
    return {"taxonomy": labels, "logmel": LOGMEL}


def network(labels):
    """An untrained network of log-mels, whose batch norms have seen something."""
    torch.manual_seed(len(labels))
    network = CNNVGGish(NetworkConfig(len(labels), "none", 0.5, 0.2))
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(8, 128, 862) * -80, torch.zeros(8, 10, 128))
    return network.eval()


@pytest.mark.parametrize("wanted", [16_000, 22_050])
def test_resampling(clips, wanted):
    found = Resample(RATE, wanted)(torch.from_numpy(clips)).numpy()
    np.testing.assert_allclose(found, np.stack([resample(clip, RATE, wanted) for clip in clips]), atol=1e-6)


def test_rates_that_cannot_be_reached():
    with pytest.raises(UserError, match="from 44100 to 48000 Hz cannot be exported"):
        Resample(RATE, 48_000)


@pytest.mark.parametrize("settings", [LOGMEL, LOGMEL | {"sample_rate": 22_050, "hop_length": 256}])
def test_logmel(clips, settings):
    found = LogMel(**settings)(torch.from_numpy(clips)).numpy()
    rate = settings["sample_rate"]
    wanted = np.stack([logmel(resample(clip, RATE, rate), **settings) for clip in clips])
    # Half precision near -80 dB, and float32 transforms far below the strongest band.
    np.testing.assert_allclose(found, wanted, atol=0.07)


@pytest.mark.parametrize("outputs", ["all", "fine"])
def test_a_flat_system(tmp_path, taxonomy, about, clips, outputs):
    labels = list(taxonomy.labels if outputs == "all" else taxonomy.fine)
    tagger = Tagger(Flat(Checkpoint(network(labels), labels, about)), None)
    export(tagger, tmp_path / "a.onnx", properties={"system": "a"})
    found = compare(tmp_path / "a.onnx", tagger, clips, threads=1)
    assert found.end_to_end < 1e-4
    assert found.clips == 3
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["labels"]) == list(taxonomy.labels)
    assert (properties["system"], properties["sample_rate"]) == ("a", "44100")
    (together,) = session.run(None, {"waveform": clips})
    np.testing.assert_allclose(together, [tagger.predict(clip, RATE) for clip in clips], atol=1e-4)
    assert not together[2].any()
    with torch.no_grad():
        tagger.system.network.head[-1].bias += 0.01
    with pytest.raises(UserError, match="does not do what the system does"):
        compare(tmp_path / "a.onnx", tagger, clips[:1], threads=1)


@pytest.mark.parametrize(("root", "unselected"), [("coarse", "keep"), ("labels", "keep"), ("labels", "zero")])
def test_a_hierarchy(tmp_path, taxonomy, about, clips, root, unselected):
    nodes = {ROOT: list(getattr(taxonomy, root))}
    for group in parents(taxonomy)[:2]:  # other groups have no network
        nodes[taxonomy.coarse[group]] = [*node_labels(taxonomy, group), OTHER]
    nodes = {name: Checkpoint(network(labels), labels, {}) for name, labels in nodes.items()}
    tagger = Tagger(Hierarchy(nodes, about, threshold=0.5, unselected=unselected), None)
    export(tagger, tmp_path / "a.onnx", properties={})
    assert compare(tmp_path / "a.onnx", tagger, clips[:2], threads=1).end_to_end < 1e-4
    fine = np.stack([tagger.predict(clip, RATE) for clip in clips[:2]])[:, len(taxonomy.coarse) :]
    # What the rule leaves out is the root's, if it has any.
    assert (fine == 0).any() == (root == "coarse" or unselected == "zero")
    export(tagger, tmp_path / "b.onnx", properties={})
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
