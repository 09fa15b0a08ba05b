"""Trained systems of every kind: what they are on disk, and how each tags clips."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ust.checkpoints import (
    DESCRIPTION_FILE,
    NOT_A_DESCRIPTION,
    Checkpoint,
    load_checkpoint,
    read_description,
    read_network,
)
from ust.errors import UserError
from ust.examples import Examples
from ust.hierarchy import OTHER, ROOT, combine
from ust.inference import complete_probabilities, predict
from ust.models import FrameClassifier
from ust.taxonomy import Taxonomy


class System(ABC):
    """A trained system.

    Attributes
    ----------
    about : dict
        What it rests on.
    """

    about: dict[str, Any]

    @abstractmethod
    def probabilities(
        self, examples: Examples, taxonomy: Taxonomy, *, batch_size: int, device: torch.device
    ) -> np.ndarray:
        """Probabilities of all labels, coarse first [shape=(n, labels), float32]."""


class Flat(System):
    """One network for all its labels.

    Parameters
    ----------
    checkpoint : Checkpoint
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.network, self.labels, self.about = checkpoint.network, checkpoint.labels, checkpoint.about

    def probabilities(
        self, examples: Examples, taxonomy: Taxonomy, *, batch_size: int, device: torch.device
    ) -> np.ndarray:
        """Those of the network's outputs; coarse ones it lacks are the maximum of their fine ones."""
        outputs = predict(self.network.to(device), examples, batch_size=batch_size, device=device)
        return complete_probabilities(outputs, self.labels, taxonomy)


class Hierarchy(System):
    """A root, which predicts at least the coarse labels, and a network for each group with one of its own.

    Parameters
    ----------
    nodes : dict of str to Checkpoint
        By name: "root" and coarse labels.
    about : dict
    threshold : float
        Coarse probability above which a group's network runs.
    unselected : {"keep", "zero"}
        What the fine labels of groups that do not run are: the root's, if it has any, or 0.
    """

    def __init__(
        self, nodes: dict[str, Checkpoint], about: dict[str, Any], *, threshold: float, unselected: str
    ) -> None:
        self.nodes, self.about, self.threshold, self.unselected = nodes, about, threshold, unselected

    def keeps(self, taxonomy: Taxonomy) -> bool:
        """Whether fine probabilities of the root stand where no other network runs."""
        return self.unselected == "keep" and bool(set(self.nodes[ROOT].labels) & set(taxonomy.fine))

    def probabilities(
        self, examples: Examples, taxonomy: Taxonomy, *, batch_size: int, device: torch.device
    ) -> np.ndarray:
        """Those that `ust.hierarchy.combine` makes of the networks that run."""

        def answer(name: str, clips: np.ndarray | slice) -> np.ndarray:
            some = examples.having(clips, examples.targets[clips])
            return predict(self.nodes[name].network.to(device), some, batch_size=batch_size, device=device)

        def fine(group: int, clips: np.ndarray) -> np.ndarray | None:
            name = taxonomy.coarse[group]
            if name not in self.nodes:
                return None
            known = [label != OTHER for label in self.nodes[name].labels]
            return answer(name, clips)[:, known]

        root = complete_probabilities(answer(ROOT, slice(None)), self.nodes[ROOT].labels, taxonomy)
        return combine(root, fine, taxonomy, threshold=self.threshold, keep=self.keeps(taxonomy))


class Baseline(System):
    """A classifier of single frames, whose answers are pooled.

    Parameters
    ----------
    network : FrameClassifier
    labels : list of str
        What its outputs are of.
    about : dict
    pooling : {"mean", "max", "softmax"}
        Over a clip's frames; "softmax" is their mean weighted by the softmax of the probabilities.
    """

    def __init__(
        self, network: FrameClassifier, labels: list[str], about: dict[str, Any], *, pooling: str
    ) -> None:
        self.network, self.labels, self.about, self.pooling = network, labels, about, pooling

    def probabilities(
        self, examples: Examples, taxonomy: Taxonomy, *, batch_size: int, device: torch.device
    ) -> np.ndarray:
        """The pooled ones; coarse ones it lacks are the maximum of their fine ones, other fine ones 0."""
        with torch.inference_mode():
            embeddings = torch.from_numpy(examples.vggish[examples.rows]).to(device)
            frames = torch.sigmoid(self.network.to(device)(embeddings))
            return complete_probabilities(pool(frames, self.pooling).cpu().numpy(), self.labels, taxonomy)


def pool(frames: torch.Tensor, pooling: str) -> torch.Tensor:
    """Clip probabilities (n, labels) from those of frames (n, frames, labels); see `Baseline`."""
    if pooling == "max":
        return frames.amax(dim=1)
    if pooling == "softmax":
        return (frames * torch.softmax(frames, dim=1)).sum(dim=1)
    return frames.mean(dim=1)


def load_system(folder: Path, *, threshold: float, unselected: str, pooling: str) -> System:
    """Read a trained system of any kind.

    Parameters
    ----------
    folder : Path
        Of the stage train; of a flat system the folder of one checkpoint.
    threshold, unselected
        See `Hierarchy`.
    pooling : str
        See `Baseline`.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    description = read_description(folder)
    kind = description.get("kind")
    try:
        if kind == "flat":
            return Flat(load_checkpoint(folder))
        about = dict(description["about"])
        if kind == "hierarchy":
            nodes = {name: load_checkpoint(folder / name) for name in description["nodes"]}
            if ROOT not in nodes:
                raise KeyError(ROOT)
            return Hierarchy(nodes, about, threshold=threshold, unselected=unselected)
        if kind == "baseline":
            network = read_network(folder, lambda: FrameClassifier(**description["network"]))
            return Baseline(network, list(description["labels"]), about, pooling=pooling)
    except NOT_A_DESCRIPTION as error:
        raise UserError(f"{folder / DESCRIPTION_FILE}: not a description of a system ({error})") from None
    raise UserError(
        f"{folder / DESCRIPTION_FILE}: the kind is {kind!r}, should be flat, hierarchy or baseline"
    )
