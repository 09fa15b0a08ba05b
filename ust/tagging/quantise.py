"""An exported system in 8 bits: a quarter of the size, for small machines; what that costs is measured."""

import io
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization

from ust.tagging.export import INPUT
from ust.util.files import atomic_write

CALIBRATING = 16  # clips by which the ranges of activations are set
PERCENTILE = 99.99  # of an activation's values that its range holds
SMALLEST = 100_000  # weights of a linear layer that is worth it


class _Clips(quantization.CalibrationDataReader):
    """Clips as onnxruntime asks for them."""

    def __init__(self, clips: Sequence[np.ndarray]) -> None:
        self.left = iter(clips)

    def get_next(self) -> dict[str, np.ndarray] | None:
        clip = next(self.left, None)
        return None if clip is None else {INPUT: clip[None]}


def quantise(path: Path, out: Path, clips: Sequence[np.ndarray]) -> int:
    """Write an exported system with its networks' large layers in 8 bits.

    What makes the features stays in single precision, for a spectrogram has too wide a range, and so do
    convolutions of single channels and small linear layers, which have few weights and lose most. Weights are
    scaled for each channel, activations by what they are on a few clips.

    Parameters
    ----------
    path, out : Path
        ONNX files, of `ust.tagging.export.export` and to write.
    clips : sequence of numpy.ndarray [shape=(441000,), float32]
        The first few are calibrated with.

    Returns
    -------
    int
        How many layers were quantised.
    """
    model = onnx.load(path)
    layers = _layers(model)
    with TemporaryDirectory() as scratch, redirect_stdout(io.StringIO()), _quiet():
        quantization.quantize_static(
            path,
            Path(scratch, "int8.onnx"),
            _Clips(clips[:CALIBRATING]),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE},
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=layers,
        )
        found = onnx.load(Path(scratch, "int8.onnx"))
    onnx.helper.set_model_props(found, {prop.key: prop.value for prop in model.metadata_props})
    with atomic_write(out) as partial:
        onnx.save(found, partial)
    return len(layers)


def _layers(model: Any) -> list[str]:
    """Names of the convolutions over several channels of maps, and of the large linear layers."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        shape = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
        convolution = node.op_type == "Conv" and len(shape) == 4 and shape[1] > 1
        if convolution or (node.op_type == "Gemm" and np.prod(shape) >= SMALLEST):
            found.append(node.name)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime from advising on its own tools."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


@dataclass(frozen=True)
class Cost:
    """What 8 bits cost and save.

    Attributes
    ----------
    probabilities : dict of str to numpy.ndarray [shape=(clips, labels)]
        ``float32`` and ``int8``.
    milliseconds : dict of str to float
        A clip, median.
    """

    probabilities: dict[str, np.ndarray]
    milliseconds: dict[str, float]


def compare(path: Path, quantised: Path, clips: Sequence[np.ndarray], *, threads: int) -> Cost:
    """Run both on the same clips, in turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    sessions = {
        name: onnxruntime.InferenceSession(each, options, providers=["CPUExecutionProvider"])
        for name, each in (("float32", path), ("int8", quantised))
    }
    found: dict[str, list[np.ndarray]] = {name: [] for name in sessions}
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for clip in clips:
        for name, session in sessions.items():
            start = time.perf_counter()
            found[name].append(session.run(None, {INPUT: clip[None]})[0][0])
            seconds[name].append(time.perf_counter() - start)
    return Cost(
        {name: np.stack(rows) for name, rows in found.items()},
        {name: 1000 * float(np.median(values)) for name, values in seconds.items()},
    )
