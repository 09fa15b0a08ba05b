"""A trained system with its front ends as one PyTorch module of plain operations, to be exported."""

import json
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ust.audio.recordings import SAMPLE_RATE
from ust.tagging.front_ends import FRONT_ENDS, SAMPLES
from ust.tagging.tagger import Tagger
from ust.util.documents import render_template
from ust.util.errors import UserError
from ust.util.files import atomic_write


class EndToEnd(nn.Module):
    """What a tagger does, as one module: clips (batch, samples) to probabilities (batch, labels).

    Those features that are quantised follow, by the name of the feature.

    Raises
    ------
    UserError
        If the system takes a feature that has no such module.
    """

    def __init__(self, tagger: Tagger) -> None:
        super().__init__()
        for front_end in tagger.front_ends.values():
            if front_end.name not in FRONT_ENDS:
                raise UserError(
                    f"the feature {front_end.name} cannot be exported; {', '.join(FRONT_ENDS)} can"
                )
        self.system = tagger.system
        self.front_ends = nn.ModuleDict(
            {
                name: FRONT_ENDS[each.name](each.folder, each.computed)
                for name, each in tagger.front_ends.items()
            }
        )
        self.shown = [name for name, each in tagger.front_ends.items() if each.dtype == "uint8"]
        self.eval()

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = {name: module(waveform) for name, module in self.front_ends.items()}
        silent = (waveform == 0).all(dim=1, keepdim=True)
        probabilities = torch.where(silent, 0.0, self.system(**features))
        return probabilities, *(features[name] for name in self.shown)


OPSET = 20
INPUT, PROBABILITIES = "waveform", "probabilities"
TOLERANCE, MOST_OFF = 1e-4, 0.01


def export(tagger: Tagger, path: Path, *, properties: dict[str, str]) -> None:
    """Write a tagger, of plain layers (``Tagger.load(…, fast=False)``), as ONNX.

    The graph takes ``waveform`` [shape=(batch, 441000), float32, 44.1 kHz, full scale ±1] and gives
    ``probabilities`` [shape=(batch, labels), float32] and, for systems that use it, ``vggish``
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
            output_names=[PROBABILITIES, *module.shown],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    model = program.model_proto
    for node in model.graph.node:  # what each was in PyTorch, with this machine's paths
        del node.metadata_props[:]
        node.doc_string = ""
    labels = {"labels": json.dumps(tagger.taxonomy.labels), "sample_rate": str(SAMPLE_RATE)}
    onnx.helper.set_model_props(model, properties | labels)
    with atomic_write(path) as partial:
        onnx.save(model, partial)


@dataclass(frozen=True)
class Comparison:
    """How an exported system compares with the one it was made of, on some clips.

    Attributes
    ----------
    clips : int
    steps : int
        Largest difference of a quantised feature that a network computes, in steps of 255.
    off : float
        Share of its values that differ.
    head : float
        Largest difference of a probability, both given the same features.
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


def check(path: Path, tagger: Tagger, clips: Sequence[np.ndarray], *, threads: int) -> Comparison:
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
    names = [output.name for output in session.get_outputs()][1:]
    onnx_ms, pytorch_ms, heads, ends, differences = [], [], [], [], [np.zeros(1, int)]
    for clip in clips:
        start = time.perf_counter()
        probabilities, *shown = session.run(None, {INPUT: clip[None]})
        between = time.perf_counter()
        features = tagger.features([clip], SAMPLE_RATE)
        wanted = tagger.probabilities(features)
        end = time.perf_counter()
        given = {name: values.astype(features[name].dtype) for name, values in zip(names, shown, strict=True)}
        same = tagger.probabilities(features | given)
        heard = clip.any()  # in silence both say 0, whatever the system answers
        heads.append(abs(same * heard - probabilities).max())
        ends.append(abs(wanted * heard - probabilities).max())
        differences += [abs(given[name].astype(int) - features[name]).ravel() for name in names]
        onnx_ms.append(1000 * (between - start))
        pytorch_ms.append(1000 * (end - between))
    found = Comparison(
        len(clips), int(np.concatenate(differences).max()), float((np.concatenate(differences) > 0).mean()),
        float(max(heads)), float(max(ends)), float(np.median(onnx_ms)), float(np.median(pytorch_ms)),
    )  # fmt: skip
    if found.head > TOLERANCE or found.steps > 1 or found.off > MOST_OFF:
        raise UserError(
            f"{path}: does not do what the system does: probabilities differ by {found.head:.1e} (at most "
            f"{TOLERANCE:.0e}), {found.off:.2%} of the embedding values (at most {MOST_OFF:.0%}), by up to "
            f"{found.steps} steps of 255 (at most 1)"
        )
    return found


TEMPLATE = "model_card.md.jinja"


def model_card(*, metrics: dict[str, Any] | None, **content: Any) -> str:
    """The card as Markdown.

    Parameters
    ----------
    metrics : dict or None
        As the stage evaluate writes it; None where the system was not evaluated.
    **content
        What else the template names.
    """

    def figure(level: str, key: str) -> str:
        if metrics is None or key not in metrics.get(level, {}):
            return "–"
        low, high = metrics["ci95"]["clips"][level][key]
        return f"{metrics[level][key]:.3f} [{low:.3f}, {high:.3f}]"

    def constant(level: str) -> str:
        return f"{metrics['prevalence'][level]['micro_auprc']:.3f}" if metrics else "–"

    path = Path(__file__).parent / TEMPLATE
    return render_template(path, metrics=metrics, figure=figure, constant=constant, **content)
