"""Embeddings from any ONNX model that takes a waveform, such as PANNs, YAMNet, BEATs or BirdNET.

The default parameters do not use it: add the section ``onnx`` and a row of ``embeddings``.
"""

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from ust.audio.recordings import CLIP_SECONDS
from ust.audio.resampling import resample
from ust.features.feature import Embed, Feature, FetchFile, Network
from ust.util.config import PositiveInt, Section
from ust.util.digests import file_digest
from ust.util.errors import UserError, single_line
from ust.util.files import atomic_write

MODEL_FILE = "model.onnx"


class ExtractionConfig(Section):
    """Settings that an embedding depends on, besides the model file."""

    sample_rate: Annotated[int, Field(ge=1000, le=192_000)]
    """Hz."""
    samples: PositiveInt
    """Length of the model's input. A clip is cut into as many windows of this length as fit, at least one."""
    frames: PositiveInt
    """Embeddings per window."""
    size: PositiveInt
    """Values per embedding."""


class ONNXConfig(ExtractionConfig):
    """The section ``onnx`` of params.yaml."""

    file: str
    """The ONNX file, relative to the project."""


class Settings(Section):
    """Settings of the kind ``onnx``."""

    batch_clips: PositiveInt = 8
    """Clips that go through the network at once."""


def window_count(settings: ExtractionConfig) -> int:
    """Return the number of windows that a clip is cut into."""
    return max(1, CLIP_SECONDS * settings.sample_rate // settings.samples)


def shape(settings: ExtractionConfig) -> tuple[int, ...]:
    """Return the number of embeddings of a clip, if it has several, and their size."""
    count = window_count(settings) * settings.frames
    return (count, settings.size) if count > 1 else (settings.size,)


def process_clip(samples: np.ndarray, sample_rate: int, settings: ExtractionConfig) -> np.ndarray:
    """Cut a clip into windows [shape=(windows, samples), float32]; an incomplete last one is dropped."""
    resampled = resample(samples, sample_rate, settings.sample_rate).astype(np.float32)
    length = window_count(settings) * settings.samples
    whole = np.pad(resampled[:length], (0, max(0, length - len(resampled))))
    return whole.reshape(-1, settings.samples)


def prepare(folder: Path, settings: ONNXConfig, fetch_file: FetchFile) -> dict[str, Any]:
    """Copy the model into a folder, after checking that its input and output match the settings.

    Returns the description of the network; its ``weights`` are the file's name.
    """
    path = fetch_file(settings.file)
    run_session(open_session(path), np.zeros((2, settings.samples), np.float32), path, settings)
    with atomic_write(folder / MODEL_FILE) as partial:
        shutil.copyfile(path, partial)
    config = ExtractionConfig(**{name: getattr(settings, name) for name in ExtractionConfig.model_fields})
    return {"weights": path.name, "sha256": file_digest(folder / MODEL_FILE), **config.model_dump()}


def open_session(path: Path) -> Any:
    """Open a model in onnxruntime, on a CPU."""
    import onnxruntime

    if not path.is_file():
        raise UserError(f"{path}: no such file; onnx.file should name one")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen types without a common base class
        raise UserError(f"{path}: not a readable ONNX file ({single_line(error)})") from None


def run_session(model: Any, waveforms: np.ndarray, path: Path, settings: ExtractionConfig) -> np.ndarray:
    """Compute embeddings [shape=(n, frames, size), float32] of waveforms [shape=(n, samples)]."""
    inputs = model.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
        raise UserError(f"{path}: takes {found}, should take one float tensor of (batch, samples)")
    try:
        outputs = model.run(None, {inputs[0].name: waveforms})[0]
    except Exception as error:
        raise UserError(
            f"{path}: does not take {settings.samples} samples (onnx.samples): {single_line(error)}"
        ) from None
    expected = (len(waveforms), settings.frames, settings.size)
    if outputs.shape not in (expected, (expected[0], expected[2]) if settings.frames == 1 else expected):
        raise UserError(
            f"{path}: gives {outputs.shape[1:]} for {settings.samples} samples; "
            f"onnx.frames and onnx.size say {expected[1:]}"
        )
    return outputs.reshape(expected).astype(np.float32)


def load(folder: Path, settings: ExtractionConfig, device: torch.device) -> Embed:
    """Load the model; return a function that embeds the windows of several clips."""
    path = folder / MODEL_FILE
    model = open_session(path)

    def embed(clips: np.ndarray) -> np.ndarray:
        embeddings = run_session(model, clips.reshape(-1, settings.samples), path, settings)
        return embeddings.reshape(len(clips), *shape(settings))

    return embed


NETWORK = Network(ONNXConfig, prepare)
FEATURE = Feature(
    Settings,
    ExtractionConfig,
    "float32",
    shape,
    process_clip,
    sources=("ust/features/onnx", "ust/util/device.py"),
    packages=("numpy", "onnxruntime", "resampy", "soundfile"),
    network="onnx",
    load=load,
)
