"""Exported ONNX graphs: each part against its definition, whole systems against PyTorch."""

import json
from dataclasses import asdict

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import RATE
from tiny import ALONE, CPU

from ust.audio.resampling import resample
from ust.features.context import MISSING, context_vector
from ust.features.efficientat.weights import EfficientATConfig
from ust.features.logmel import logmel
from ust.features.registry import write_network
from ust.models.checkpoints import SavedNetwork, save_network
from ust.models.cnn import CNN
from ust.models.context import ContextConfig, ContextNetwork, NetworkWithContext
from ust.models.head import Head
from ust.models.outputs import OTHER, ROOT, groups_with_classifier
from ust.models.systems import CalibratedClassifier, FlatSystem, HierarchicalSystem
from ust.tagging.export import (
    CHECKED_PLACE,
    CHECKED_TIME,
    compare_with_pytorch,
    custom_model_card,
    export_onnx,
)
from ust.tagging.front_ends import LogMel, Resample
from ust.tagging.pretrained import pack
from ust.tagging.tagger import FrontEnd, Tagger
from ust.util.errors import UserError

LOGMEL = {"sample_rate": RATE, "n_fft": 2048, "hop_length": 512, "n_mels": 128}


@pytest.fixture
def clips(noise):
    """Rising noise, a pulsing tone and silence [shape=(3, 441000), float32]."""
    time = np.arange(10 * RATE, dtype=np.float32) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 880 * time) * (np.sin(2 * np.pi * time) > 0)
    return np.stack([noise * time / 10, tone + 0.01 * noise, np.zeros_like(noise)]).astype(np.float32)


@pytest.fixture
def front_ends(tmp_path):
    return {"logmel": FrontEnd.load(tmp_path, "logmel", {"kind": "logmel", **LOGMEL}, CPU)}


def network(labels):
    """Return an untrained log-mel network whose batch norms have running statistics."""
    torch.manual_seed(len(labels))
    network = CNN(ALONE, len(labels))
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(8, 128, 862) * -80)
    return network.eval()


@pytest.mark.parametrize("wanted", [16_000, 22_050])
def test_exported_resampling_matches_resampy(clips, wanted):
    found = Resample(RATE, wanted)(torch.from_numpy(clips)).numpy()
    np.testing.assert_allclose(found, np.stack([resample(clip, RATE, wanted) for clip in clips]), atol=1e-6)


def test_unsupported_rates_are_refused():
    with pytest.raises(UserError, match="from 44100 to 48000 Hz cannot be exported"):
        Resample(RATE, 48_000)


@pytest.mark.parametrize("settings", [LOGMEL, LOGMEL | {"sample_rate": 22_050, "hop_length": 256}])
def test_exported_logmel_matches_the_feature(clips, settings):
    found = LogMel(**settings)(torch.from_numpy(clips)).numpy()
    rate = settings["sample_rate"]
    wanted = np.stack([logmel(resample(clip, RATE, rate), **settings) for clip in clips])
    # Half precision near -80 dB, and float32 transforms far below the strongest band.
    np.testing.assert_allclose(found, wanted, atol=0.07)


def linear(folder, taxonomy, feature, settings, size):
    """Save a calibrated linear head on the embeddings of a seeded MobileNet; return its folder."""
    network = write_network(
        folder / "pretrained" / "efficientat", "efficientat", EfficientATConfig(seed=0), None
    )
    wanted = {"kind": feature, **network, **settings}
    torch.manual_seed(0)
    config = Head.Config(hidden_layers=0, hidden_size=8, dropout=0.0)
    labels = list(taxonomy.labels)
    head = Head(config, len(labels), {"embedding": (size,)})
    calibration = {"scale": [2.0] * len(labels), "shift": [-1.0] * len(labels)}
    metadata = {"taxonomy": asdict(taxonomy), "inputs": {"embedding": feature}, "features": {feature: wanted},
             "calibration": calibration}  # fmt: skip
    save_network(folder / "own", SavedNetwork(head, "head", config, labels, metadata, {"embedding": (size,)}))
    return folder / "own"


@pytest.fixture
def pretrained(tmp_path, taxonomy):
    return linear(tmp_path, taxonomy, "mn", {"frames": False}, 384)


def test_exported_window_system_matches_tagger(tmp_path, taxonomy, clips):
    tagger = Tagger.load(linear(tmp_path, taxonomy, "mn_windows", {"windows": 4}, 1295), fast=False)
    export_onnx(tagger, tmp_path / "a.onnx", properties={})
    assert compare_with_pytorch(tmp_path / "a.onnx", tagger, clips, threads=1).max_error_end_to_end < 1e-4


def test_a_system_with_time_and_place(tmp_path, taxonomy, front_ends, clips):
    """Which are known of the second clip alone."""
    audio = network(taxonomy.labels)
    context = ContextNetwork(ContextConfig(), len(taxonomy.labels))
    context.fit(torch.from_numpy(np.stack([context_vector(CHECKED_TIME, CHECKED_PLACE), MISSING])))
    metadata = {"inputs": {"logmel": "logmel", "context": "context"}}
    both = NetworkWithContext(audio, context).eval()
    system = FlatSystem(both, list(taxonomy.labels), taxonomy, metadata)
    tagger = Tagger(system.eval(), front_ends)
    path = tmp_path / "a.onnx"
    export_onnx(tagger, path, properties={})
    assert compare_with_pytorch(path, tagger, clips, threads=1).max_error_end_to_end < 1e-4
    session = onnxruntime.InferenceSession(path)
    assert [put.name for put in session.get_inputs()] == ["waveform", "context"]
    vectors = np.stack([context_vector(CHECKED_TIME), MISSING])
    (found,) = session.run(None, {"waveform": np.stack([clips[1]] * 2), "context": vectors})
    wanted = [tagger.predict(clips[1], RATE, time=CHECKED_TIME), tagger.predict(clips[1], RATE)]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert abs(wanted[0] - wanted[1]).max() > 1e-2


def test_exported_pretrained_system_matches_tagger(tmp_path, pretrained, clips):
    tagger = Tagger.load(pretrained, fast=False)
    export_onnx(tagger, tmp_path / "a.onnx", properties={"system": "own"})
    assert compare_with_pytorch(tmp_path / "a.onnx", tagger, clips, threads=1).max_error_end_to_end < 1e-4


def test_export_accepts_a_folder(tmp_path, pretrained, clips):
    pack(tmp_path / "packed", "own", pretrained, tmp_path / "pretrained", {"threshold": 0.4})
    wanted = Tagger.load(pretrained).predict(clips[0], RATE)
    np.testing.assert_array_equal(Tagger.from_pretrained(tmp_path / "packed").predict(clips[0], RATE), wanted)


@pytest.mark.parametrize("outputs", ["all", "fine"])
def test_exported_flat_system_matches_tagger(tmp_path, taxonomy, front_ends, clips, outputs):
    labels = list(taxonomy.labels if outputs == "all" else taxonomy.fine)
    tagger = Tagger(FlatSystem(network(labels), labels, taxonomy, {}), front_ends)
    for name in "ab":
        export_onnx(tagger, tmp_path / f"{name}.onnx", properties={"system": "a"})
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    found = compare_with_pytorch(tmp_path / "a.onnx", tagger, clips, threads=1)
    assert found.max_error_end_to_end < 1e-4
    assert found.clips == 3
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["labels"]) == list(taxonomy.labels)
    assert (properties["system"], properties["sample_rate"]) == ("a", "44100")
    (together,) = session.run(None, {"waveform": clips})
    np.testing.assert_allclose(together, [tagger.predict(clip, RATE) for clip in clips], atol=1e-4)
    assert not together[2].any()
    with torch.no_grad():
        tagger.system.classifier.network.head[-1].bias += 0.01
    with pytest.raises(UserError, match="does not agree with the PyTorch system"):
        compare_with_pytorch(tmp_path / "a.onnx", tagger, clips[:1], threads=1)


@pytest.mark.parametrize(
    ("root", "unselected"),
    [
        ("labels", "zero"),
        pytest.param("coarse", "keep", marks=pytest.mark.slow),
        pytest.param("labels", "keep", marks=pytest.mark.slow),
    ],
)
def test_exported_hierarchy_matches_tagger(tmp_path, taxonomy, front_ends, clips, root, unselected):
    nodes = {ROOT: list(getattr(taxonomy, root))}
    for group in groups_with_classifier(taxonomy)[:2]:  # other groups have no network
        nodes[taxonomy.coarse[group]] = [*taxonomy.fine_labels(group), OTHER]
    nodes = {name: CalibratedClassifier(network(labels), labels) for name, labels in nodes.items()}
    options = {"threshold": 0.5, "unselected": unselected}
    tagger = Tagger(HierarchicalSystem(nodes, taxonomy, {}, **options).eval(), front_ends)
    export_onnx(tagger, tmp_path / "a.onnx", properties={})
    assert compare_with_pytorch(tmp_path / "a.onnx", tagger, clips[:2], threads=1).max_error_end_to_end < 1e-4
    fine = np.stack([tagger.predict(clip, RATE) for clip in clips[:2]])[:, len(taxonomy.coarse) :]
    # Groups that do not run keep the root's probabilities, if it has any.
    assert (fine == 0).any() == (root == "coarse" or unselected == "zero")


def test_model_card_of_custom_tagger_describes_its_classes():
    figures = {"micro_auprc": 0.9, "macro_auprc": 0.85, "micro_f1": 0.7, "calibration_error": 0.1}
    interval = {key: [0.8, 0.95] for key in figures}
    card = custom_model_card(
        metrics={"train": {"coarse": figures}},
        details={"clips": {"train": 40}, "chance": {"train": {"coarse": {"micro_auprc": 0.25}}},
                 "ci95": {"train": {"coarse": interval | {"micro_f1": None}}},
                 "labels": {"Church bell": {"threshold": 0.4, "train": {"positives": 8, "auprc": None}}}},
        names=("Church bell", "tram"), seconds=4.0, system="my-city", size=3_000_000, opset=20,
        samples=441_000, sample_rate=44_100, features={"mn": {}},
        labels={"coarse": ["1_Church bell", "2_tram"], "fine": []},
        metadata={"architecture": "logistic regression", "versions": None, "calibration": {}},
    )  # fmt: skip
    for wrong in ("SONYC", "Tompkins", "volunteers", "Unknown", "not trained on padded"):
        assert wrong not in card
    assert "2 classes: Church bell, tram." in card
    assert "| micro AUPRC | 0.900 [0.800, 0.950] |" in card
    assert "| micro F1 at the thresholds | 0.700 |" in card
    assert "| Church bell | 0.40 | 8 | – |" in card
    assert "padded with silence, in training and here" in card
    assert "| --- | --- |\n" in card  # tables without gaps
