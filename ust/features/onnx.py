"""Any ONNX file that takes a waveform and gives embeddings, as a feature: PANNs, YAMNet, BEATs, BirdNET.

Not in the default parameters: name it in ``features``, and give it a section ``onnx``.
"""

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from ust.audio.recordings import CLIP_SECONDS
from ust.audio.resampling import resample
from ust.features.feature import Feature, FetchFile, OnBatch
from ust.util.config import Count, Section
from ust.util.digests import file_digest
from ust.util.errors import UserError
from ust.util.files import atomic_write

MODEL_FILE = "model.onnx"


class ExtractionConfig(Section):
    """What an embedding depends on, besides the file.

    Attributes
    ----------
    sample_rate : int
        Hz.
    samples : int
        That the file takes at a time; a clip is cut into as many such windows as fit, one at least.
    frames : int
        Embeddings that it gives of each window.
    size : int
        Of an embedding.
    """

    sample_rate: Annotated[int, Field(ge=1000, le=192_000)]
    samples: Count
    frames: Count
    size: Count


class ONNX(ExtractionConfig):
    """The section ``onnx`` of params.yaml."""

    file: str
    batch_clips: Count


def windows(settings: ExtractionConfig) -> int:
    """How many windows a clip is cut into."""
    return max(1, CLIP_SECONDS * settings.sample_rate // settings.samples)


def shape(settings: ExtractionConfig) -> tuple[int, ...]:
    """The size of an embedding, after the number of them where there are several."""
    count = windows(settings) * settings.frames
    return (count, settings.size) if count > 1 else (settings.size,)


def of_clip(samples: np.ndarray, sample_rate: int, settings: ExtractionConfig) -> np.ndarray:
    """A clip's windows [shape=(windows, samples), float32]; a last one that is not whole is dropped."""
    resampled = resample(samples, sample_rate, settings.sample_rate).astype(np.float32)
    length = windows(settings) * settings.samples
    whole = np.pad(resampled[:length], (0, max(0, length - len(resampled))))
    return whole.reshape(-1, settings.samples)


def prepare(folder: Path, settings: Any, bring: FetchFile) -> dict[str, str]:
    """Put the file into a folder, after it has answered as its section says.

    Parameters
    ----------
    folder : Path
    settings : ONNX
    bring : Bring

    Returns
    -------
    dict
        ``weights``, the file's name, and ``sha256``.

    Raises
    ------
    UserError
        If it is missing, no ONNX file, or takes or gives something else.
    """
    path = bring(settings.file)
    run_session(session(path), np.zeros((2, settings.samples), np.float32), path, settings)
    with atomic_write(folder / MODEL_FILE) as partial:
        shutil.copyfile(path, partial)
    return {"weights": path.name, "sha256": file_digest(folder / MODEL_FILE)}


def session(path: Path) -> Any:
    """The file in onnxruntime, on a CPU.

    Raises
    ------
    UserError
        If it is missing or cannot be read.
    """
    import onnxruntime

    if not path.is_file():
        raise UserError(f"{path}: no such file; onnx.file should name one")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own, a dozen kinds without a common parent
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a readable ONNX file ({reason})") from None


def run_session(model: Any, waveforms: np.ndarray, path: Path, settings: ExtractionConfig) -> np.ndarray:
    """The file's embeddings [shape=(n, frames, size), float32] of waveforms [shape=(n, samples)].

    Raises
    ------
    UserError
        Saying what it takes, or gives, and what `settings` say.
    """
    inputs = model.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        takes = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
        raise UserError(f"{path}: takes {takes}, should take one float tensor of (batch, samples)")
    try:
        found = model.run(None, {inputs[0].name: waveforms})[0]
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: does not take {settings.samples} samples (onnx.samples): {reason}"
        ) from None
    wanted = (len(waveforms), settings.frames, settings.size)
    if found.shape not in (wanted, (wanted[0], wanted[2]) if settings.frames == 1 else wanted):
        raise UserError(
            f"{path}: gives {found.shape[1:]} for {settings.samples} samples; onnx.frames and onnx.size say "
            f"{wanted[1:]}"
        )
    return found.reshape(wanted).astype(np.float32)


def on_batch(folder: Path, settings: ExtractionConfig, device: torch.device) -> OnBatch:
    """The file over the windows of several clips."""
    path = folder / MODEL_FILE
    model = session(path)

    def embed(clips: np.ndarray) -> np.ndarray:
        found = run_session(model, clips.reshape(-1, settings.samples), path, settings)
        return found.reshape(len(clips), *shape(settings))

    return embed


FEATURE = Feature(
    ONNX,
    ExtractionConfig,
    "float32",
    shape,
    of_clip,
    is_embedding=True,
    packages=("numpy", "onnxruntime", "resampy", "soundfile"),
    prepare=prepare,
    on_batch=on_batch,
)
