"""Export to ONNX: the system and its front ends as one graph, a check against PyTorch, a model card."""

import json
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ust.audio.recordings import SAMPLE_RATE
from ust.features.context import CONTEXT, MISSING, SIZE, Place, context_vector
from ust.tagging.front_ends import FRONT_ENDS, SAMPLES
from ust.tagging.tagger import Tagger
from ust.util.documents import markdown_table, render_template
from ust.util.errors import UserError
from ust.util.files import atomic_write

OPSET = 20
INPUT, PROBABILITIES = "waveform", "probabilities"
MAX_PROBABILITY_ERROR = 1e-4
MAX_SHARE_DIFFERENT = 0.01  # of quantised feature values
CHECKED_TIME, CHECKED_PLACE = datetime(2026, 7, 4, 15), Place(40.73, -73.99, 1)


class EndToEndModule(nn.Module):
    """A tagger as one exportable module: clips (batch, samples) to probabilities (batch, labels).

    A system that takes time and place has them as second input, vectors (batch, 15).

    The features that are quantised to 8 bits are further outputs, in the order of `quantised`.
    """

    def __init__(self, tagger: Tagger) -> None:
        super().__init__()
        for front_end in tagger.front_ends.values():
            if front_end.kind not in FRONT_ENDS:
                raise UserError(
                    f"features of the kind {front_end.kind} cannot be exported; {', '.join(FRONT_ENDS)} can"
                )
        self.system = tagger.system
        self.front_ends = nn.ModuleDict(
            {
                name: FRONT_ENDS[front_end.kind](front_end.folder, front_end.config)
                for name, front_end in tagger.front_ends.items()
            }
        )
        self.quantised = [name for name, front_end in tagger.front_ends.items() if front_end.dtype == "uint8"]
        self.eval()

    def forward(
        self, waveform: torch.Tensor, context: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        features = {name: module(waveform) for name, module in self.front_ends.items()}
        if context is not None:
            features[CONTEXT] = context
        silent = (waveform == 0).all(dim=1, keepdim=True)
        probabilities = torch.where(silent, 0.0, self.system(**features))
        return probabilities, *(features[name] for name in self.quantised)


def export_onnx(tagger: Tagger, path: Path, *, properties: dict[str, str]) -> None:
    """Write a tagger as an ONNX file.

    The graph's input is ``waveform`` [shape=(batch, 441000), float32, 44.1 kHz, full scale ±1]. Its outputs
    are ``probabilities`` [shape=(batch, labels), float32] and, for systems that use it, ``vggish``
    [shape=(batch, 10, 128), float32, whole numbers from 0 to 255]. A system that takes time and place has the
    further input ``context`` [shape=(batch, 15), float32], vectors of `ust.features.context.context_vector`,
    which are 0 where time and place are not known.

    Parameters
    ----------
    tagger : Tagger
        The system, with its layers not replaced by faster ones (``Tagger.load(…, fast=False)``).
    path : Path
        The file to write.
    properties : dict of str to str
        Further metadata of the file, beside ``labels`` (a JSON list, in order) and ``sample_rate``.

    Raises
    ------
    UserError
        If a feature has no exportable module, or its sample rate is one the graph cannot resample to.

    Examples
    --------
    >>> tagger = Tagger.load("models/cnn/coarse", fast=False)  # doctest: +SKIP
    >>> export_onnx(tagger, Path("model.onnx"), properties={"system": "cnn"})  # doctest: +SKIP
    """
    module, batch = EndToEndModule(tagger), torch.export.Dim("batch")
    inputs = [INPUT, *([CONTEXT] if tagger.takes_context else [])]
    for noisy in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            module,
            (torch.zeros(2, SAMPLES), torch.zeros(2, SIZE))[: len(inputs)],
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=[PROBABILITIES, *module.quantised],
            dynamic_shapes=({0: batch},) * len(inputs),
            verbose=False,
        )
    model = program.model_proto
    for node in model.graph.node:  # the exporter adds stack traces with paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    labels = {"labels": json.dumps(tagger.taxonomy.names), "sample_rate": str(SAMPLE_RATE)}
    onnx.helper.set_model_props(model, properties | labels)
    with atomic_write(path) as partial:
        onnx.save(model, partial)


@dataclass(frozen=True)
class Comparison:
    """Differences between an exported system and the tagger it was exported from, over some clips.

    Attributes
    ----------
    clips : int
        Number of clips.
    max_step_difference : int
        Largest difference of a quantised feature value, in steps of 1/255 of its range.
    share_different : float
        Share of the quantised feature values that differ, in [0, 1].
    max_error_same_features : float
        Largest difference of a probability if both systems are given the same features.
    max_error_end_to_end : float
        Largest difference of a probability if both systems are given the same waveform.
    onnx_ms, pytorch_ms : float
        Median time per clip in milliseconds.
    """

    clips: int
    max_step_difference: int
    share_different: float
    max_error_same_features: float
    max_error_end_to_end: float
    onnx_ms: float
    pytorch_ms: float


def compare_with_pytorch(
    path: Path, tagger: Tagger, clips: Sequence[np.ndarray], *, threads: int
) -> Comparison:
    """Run an exported system with onnxruntime beside the tagger it was exported from.

    Parameters
    ----------
    path : Path
        The ONNX file.
    tagger : Tagger
        The tagger it was exported from.
    clips : sequence of numpy.ndarray [shape=(441000,), float32]
        Mono clips at 44.1 kHz.
    threads : int
        Number of threads for onnxruntime.

    Raises
    ------
    UserError
        If a probability differs by more than 1e-4 although both systems have the same embeddings, an
        embedding value differs by more than one step, or more than 1 % of the embedding values differ. Some
        values differ inevitably: embeddings are truncated to 8 bits, so that the last bit of a float32 can
        decide between two steps.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()][1:]
    onnx_ms, pytorch_ms, errors_same_features, errors_end_to_end, steps = [], [], [], [], [np.zeros(1, int)]
    for number, clip in enumerate(clips):
        # Every second clip has a time and a place.
        vector = context_vector(CHECKED_TIME, CHECKED_PLACE) if number % 2 else MISSING
        context = {CONTEXT: vector[None]} if tagger.takes_context else {}
        start = time.perf_counter()
        probabilities, *outputs = session.run(None, {INPUT: clip[None]} | context)
        between = time.perf_counter()
        features = tagger.features([clip], SAMPLE_RATE) | context
        expected = tagger.probabilities(features)
        end = time.perf_counter()
        exported = {
            name: values.astype(features[name].dtype) for name, values in zip(names, outputs, strict=True)
        }
        expected_same_features = tagger.probabilities(features | exported)
        audible = clip.any()  # the graph sets the probabilities of digital silence to 0
        errors_same_features.append(abs(expected_same_features * audible - probabilities).max())
        errors_end_to_end.append(abs(expected * audible - probabilities).max())
        steps += [abs(exported[name].astype(int) - features[name]).ravel() for name in names]
        onnx_ms.append(1000 * (between - start))
        pytorch_ms.append(1000 * (end - between))
    result = Comparison(
        clips=len(clips),
        max_step_difference=int(np.concatenate(steps).max()),
        share_different=float((np.concatenate(steps) > 0).mean()),
        max_error_same_features=float(max(errors_same_features)),
        max_error_end_to_end=float(max(errors_end_to_end)),
        onnx_ms=float(np.median(onnx_ms)),
        pytorch_ms=float(np.median(pytorch_ms)),
    )
    if (
        result.max_error_same_features > MAX_PROBABILITY_ERROR
        or result.max_step_difference > 1
        or result.share_different > MAX_SHARE_DIFFERENT
    ):
        raise UserError(
            f"{path}: does not agree with the PyTorch system: probabilities differ by "
            f"{result.max_error_same_features:.1e} (at most {MAX_PROBABILITY_ERROR:.0e}), "
            f"{result.share_different:.2%} of the embedding values (at most {MAX_SHARE_DIFFERENT:.0%}), by "
            f"up to {result.max_step_difference} steps of 255 (at most 1)"
        )
    return result


def model_card(*, metrics: dict[str, Any] | None, **content: Any) -> str:
    """Return the model card as Markdown."""

    def figure(level: str, key: str) -> str:
        if metrics is None or key not in metrics.get(level, {}):
            return "–"
        low, high = metrics["ci95"]["clips"][level][key]
        return f"{metrics[level][key]:.3f} [{low:.3f}, {high:.3f}]"

    def constant(level: str) -> str:
        return f"{metrics['constant'][level]['micro_auprc']:.3f}" if metrics and level in metrics else "–"

    untrained = content["metadata"].get("epochs") == 0
    template = "untrained_model_card.md.jinja" if untrained else "model_card.md.jinja"
    return render_template(
        Path(__file__).with_name(template), metrics=metrics, figure=figure, constant=constant, **content
    )


def custom_model_card(*, metrics: dict[str, Any], details: dict[str, Any], **content: Any) -> str:
    """Return the model card of a custom tagger as Markdown."""

    def figure(split: str, level: str, key: str) -> str:
        interval = details["ci95"][split][level][key]
        return f"{metrics[split][level][key]:.3f}" + (
            " [{:.3f}, {:.3f}]".format(*interval) if interval else ""
        )

    columns = [(split, level) for split, levels in details["chance"].items() for level in levels]
    titles = {
        "micro_auprc": "micro AUPRC",
        "macro_auprc": "macro AUPRC",
        "micro_f1": "micro F1 at the thresholds",
    }
    rows = [
        [title, *(figure(split, level, key) for split, level in columns)] for key, title in titles.items()
    ]
    chance = [f"{details['chance'][split][level]['micro_auprc']:.3f}" for split, level in columns]
    headers = [f"{level}, {'out of fold' if split == 'train' else split}" for split, level in columns]
    classes = [
        [name, f"{row['threshold']:.2f}", str(row["train"]["positives"]),
         "–" if row["train"]["auprc"] is None else f"{row['train']['auprc']:.3f}"]
        for name, row in details["labels"].items()
    ]  # fmt: skip
    validate = details["clips"].get("validate")
    return render_template(
        Path(__file__).with_name("custom_model_card.md.jinja"),
        details=details,
        validate=f"; {validate} validate clips were kept apart" if validate else "",
        figures=markdown_table(["", *headers], [*rows, ["micro AUPRC by chance", *chance]]),
        classes=markdown_table(["class", "threshold", "train clips", "AUPRC, out of fold"], classes),
        **content,
    )
