"""A trained system with its front end as one ONNX file: waveforms in, probabilities out."""

import json
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from ust.clips import SAMPLE_RATE
from ust.end_to_end import SAMPLES, EndToEnd
from ust.errors import UserError
from ust.files import replacing
from ust.tagger import Tagger

OPSET = 20
INPUT, PROBABILITIES, EMBEDDINGS = "waveform", "probabilities", "embeddings"
TOLERANCE, MOST_OFF = 1e-4, 0.01


def export(tagger: Tagger, path: Path, *, properties: dict[str, str]) -> None:
    """Write a tagger as ONNX.

    The graph takes ``waveform`` [shape=(batch, 441000), float32, 44.1 kHz, full scale ±1] and gives
    ``probabilities`` [shape=(batch, labels), float32] and, for systems that use them, ``embeddings``
    [shape=(batch, 10, 128), float32, whole numbers from 0 to 255]. Its metadata have ``labels`` (JSON, in
    order), ``sample_rate`` and the properties that are given.

    Raises
    ------
    UserError
        If the system's features are made at rates that the graph cannot resample to.
    """
    module = EndToEnd(tagger)
    for noisy in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            module,
            (torch.zeros(2, SAMPLES),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[PROBABILITIES, EMBEDDINGS] if module.embed else [PROBABILITIES],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    model = program.model_proto
    for node in model.graph.node:  # what each was in PyTorch, with this machine's paths
        del node.metadata_props[:]
        node.doc_string = ""
    labels = {"labels": json.dumps(tagger.taxonomy.labels), "sample_rate": str(SAMPLE_RATE)}
    onnx.helper.set_model_props(model, properties | labels)
    with replacing(path) as partial:
        onnx.save(model, partial)


@dataclass(frozen=True)
class Comparison:
    """How an exported system compares with the one it was made of, on some clips.

    Attributes
    ----------
    clips : int
    steps : int
        Largest difference of a quantised embedding value, in steps of 255.
    off : float
        Share of embedding values that differ.
    head : float
        Largest difference of a probability, both given the same embeddings.
    end_to_end : float
        The same from the waveform on.
    onnx_ms, pytorch_ms : float
        Milliseconds a clip, median.
    """

    clips: int
    steps: int
    off: float
    head: float
    end_to_end: float
    onnx_ms: float
    pytorch_ms: float


def compare(path: Path, tagger: Tagger, clips: Sequence[np.ndarray], *, threads: int) -> Comparison:
    """Run an exported system with onnxruntime beside the one it was made of.

    Parameters
    ----------
    path : Path
        Of the ONNX file.
    tagger : Tagger
    clips : sequence of numpy.ndarray [shape=(441000,), float32]
    threads : int
        Of onnxruntime.

    Raises
    ------
    UserError
        If they do not agree: a probability by more than 1e-4 where both have the same embeddings, or an
        embedding by more than a step, or more than 1 % of the values at all. That embeddings differ is
        expected: they are truncated to 8 bits, which makes a step of the last bit of a float32 now and then.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    onnx_ms, pytorch_ms, heads, ends, differences = [], [], [], [], []
    for clip in clips:
        start = time.perf_counter()
        probabilities, *embeddings = session.run(None, {INPUT: clip[None]})
        between = time.perf_counter()
        logmel, vggish = tagger.features([clip], SAMPLE_RATE)
        wanted = tagger.probabilities(logmel, vggish)
        end = time.perf_counter()
        given = embeddings[0].astype(np.uint8) if embeddings else vggish
        same = wanted if (given == vggish).all() else tagger.probabilities(logmel, given)
        heard = clip.any()  # in silence both say 0, whatever the system answers
        heads.append(abs(same * heard - probabilities).max())
        ends.append(abs(wanted * heard - probabilities).max())
        differences.append(abs(given.astype(int) - vggish))
        onnx_ms.append(1000 * (between - start))
        pytorch_ms.append(1000 * (end - between))
    found = Comparison(
        len(clips), int(np.max(differences)), float(np.mean(np.array(differences) > 0)),
        float(max(heads)), float(max(ends)), float(np.median(onnx_ms)), float(np.median(pytorch_ms)),
    )  # fmt: skip
    if found.head > TOLERANCE or found.steps > 1 or found.off > MOST_OFF:
        raise UserError(
            f"{path}: does not do what the system does: probabilities differ by {found.head:.1e} (at most "
            f"{TOLERANCE:.0e}), {found.off:.2%} of the embedding values (at most {MOST_OFF:.0%}), by up to "
            f"{found.steps} steps of 255 (at most 1)"
        )
    return found
