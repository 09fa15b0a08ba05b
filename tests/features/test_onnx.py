"""Embeddings of an ONNX file, and the errors of invalid files."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import RATE
from onnx import TensorProto, helper

from ust.audio.resampling import resample
from ust.features.onnx import feature
from ust.util.errors import UserError

CPU = torch.device("cpu")
SETTINGS = {"sample_rate": 16_000, "samples": 48_000, "frames": 1, "size": 5}


def model(path, *, samples=48_000, kind=TensorProto.FLOAT, rank=2, frames=None):
    """An ONNX file that multiplies a waveform with a matrix."""
    rng = np.random.default_rng(0)
    size = 5 * (frames or 1)
    matrix = helper.make_tensor("m", kind, (samples, size), rng.standard_normal((samples, size)).ravel())
    nodes = [helper.make_node("MatMul", ["waveform", "m"], ["product"])]
    if frames:
        shape = helper.make_tensor("s", TensorProto.INT64, (3,), [-1, frames, 5])
        nodes.append(helper.make_node("Reshape", ["product", "s"], ["embedding"]))
    else:
        nodes.append(helper.make_node("Identity", ["product"], ["embedding"]))
    constants = [matrix, shape] if frames else [matrix]
    inputs = [helper.make_tensor_value_info("waveform", kind, ["batch", samples][-rank:])]
    outputs = [helper.make_tensor_value_info("embedding", kind, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, path)
    return path


def fetch(source, *, checksum=None):
    return Path(source)


@pytest.mark.parametrize("frames", [1, 2])
def test_onnx_network_embeds_each_window(tmp_path, noise, frames):
    path = model(tmp_path / "a.onnx", frames=frames if frames > 1 else None)
    settings = feature.ONNXConfig(**SETTINGS | {"frames": frames}, file=str(path))
    found = feature.prepare(tmp_path / "out", settings, fetch)
    assert found["weights"] == "a.onnx"
    computed = feature.ExtractionConfig(**SETTINGS | {"frames": frames})
    assert feature.shape(computed) == (3 * frames, 5)
    values = feature.process_clip(noise, RATE, computed)
    embeddings = feature.load(tmp_path / "out", computed, CPU)(np.stack([values, values[::-1]]))
    assert embeddings.shape == (2, 3 * frames, 5)
    matrix = np.random.default_rng(0).standard_normal((48_000, 5 * frames)).astype(np.float32)
    samples = resample(noise, RATE, 16_000)[:144_000].reshape(3, 48_000)
    np.testing.assert_allclose(embeddings[0], (samples @ matrix).reshape(-1, 5), atol=1e-3)
    np.testing.assert_allclose(embeddings[1].reshape(3, -1), embeddings[0].reshape(3, -1)[::-1], atol=1e-4)


def test_onnx_network_with_longer_input_pads_with_silence(noise):
    computed = feature.ExtractionConfig(**SETTINGS | {"samples": 200_000})
    values = feature.process_clip(noise, RATE, computed)
    assert values.shape == (1, 200_000)
    assert not values[0, 160_000:].any()
    assert feature.shape(computed) == (5,)


@pytest.mark.parametrize(
    ("write", "change", "message"),
    [
        (lambda path: None, {}, "no such file"),
        (lambda path: path.write_text("onnx"), {}, "not a readable ONNX file"),
        (lambda path: path.write_bytes(model(path).read_bytes()[:1000]), {}, "not a readable ONNX file"),
        (lambda path: model(path, samples=16_000), {}, "does not take 48000 samples"),
        (lambda path: model(path), {"size": 6}, "onnx.frames and onnx.size say (1, 6)"),
        (lambda path: model(path, frames=2), {}, "onnx.frames and onnx.size say (1, 5)"),
        (lambda path: model(path, rank=1), {}, "should take one float tensor of (batch, samples)"),
        (
            lambda path: model(path, kind=TensorProto.DOUBLE),
            {},
            "should take one float tensor of (batch, samples)",
        ),
    ],
    ids=["missing", "text", "cut", "samples", "size", "frames", "rank", "double"],
)
def test_invalid_onnx_file_is_named(tmp_path, write, change, message):
    path = tmp_path / "a.onnx"
    write(path)
    with pytest.raises(UserError) as error:
        feature.prepare(tmp_path / "out", feature.ONNXConfig(**SETTINGS | change, file=str(path)), fetch)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert not (tmp_path / "out").exists()
