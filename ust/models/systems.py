"""Trained systems: from features to the probabilities of all labels, whatever they are made of."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ust.annotations.taxonomy import Taxonomy
from ust.models.outputs import OTHER, ROOT, complete_labels, raise_coarse_to_fine


class System(nn.Module):
    """From features, by name, to probabilities of all labels, coarse first [shape=(n, labels)].

    Each kind says what it takes for the answer: `probabilities`.

    Attributes
    ----------
    taxonomy : Taxonomy
    metadata : dict
        What it rests on.
    coarse_at_least_fine : bool
        Whether coarse probabilities are raised to the highest of their fine ones.
    """

    def __init__(self, taxonomy: Taxonomy, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.taxonomy, self.metadata = taxonomy, metadata
        self.coarse_at_least_fine = False

    def forward(self, **features: torch.Tensor) -> torch.Tensor:
        """Probabilities of all labels."""
        found = self.probabilities(**features)
        return raise_coarse_to_fine(found, self.taxonomy) if self.coarse_at_least_fine else found


class CalibratedClassifier(nn.Module):
    """A network as probabilities of its labels.

    Parameters
    ----------
    network : torch.nn.Module
        Given, of the features, its `inputs`.
    labels : list of str
        What its outputs are of.
    calibration : mapping, optional
        ``scale`` and ``shift`` of each label's logit (`ust.evaluation.calibration.Calibration`).
    """

    def __init__(
        self, network: nn.Module, labels: list[str], calibration: Mapping[str, list[float]] | None = None
    ) -> None:
        super().__init__()
        self.network, self.labels = network, labels
        for name in ("scale", "shift"):
            values = None if calibration is None else torch.tensor(calibration[name])
            self.register_buffer(name, values, persistent=False)

    def forward(self, **features: torch.Tensor) -> torch.Tensor:
        """Probabilities [shape=(n, outputs)]."""
        logits = self.network(**{name: features[name] for name in self.network.inputs})
        if self.scale is not None:
            logits = logits * self.scale + self.shift
        return torch.sigmoid(logits)


class FlatSystem(System):
    """One network for all its labels; coarse ones it lacks are the maximum of their fine ones.

    Of `metadata` it takes ``calibration``, if it has that.
    """

    def __init__(
        self, network: nn.Module, labels: list[str], taxonomy: Taxonomy, metadata: dict[str, Any]
    ) -> None:
        super().__init__(taxonomy, metadata)
        self.classifier = CalibratedClassifier(network, labels, metadata.get("calibration"))

    def probabilities(self, **features: torch.Tensor) -> torch.Tensor:
        """Of all labels, as the system gives them."""
        return complete_labels(self.classifier(**features), self.classifier.labels, self.taxonomy)


class FrameSystem(System):
    """Classify frames and pool their probabilities over each clip; missing labels as in `FlatSystem`.

    Parameters
    ----------
    pooling : {"mean", "max", "softmax"}
        "softmax" is the mean weighted by the softmax of the probabilities.
    """

    def __init__(
        self,
        network: nn.Module,
        labels: list[str],
        taxonomy: Taxonomy,
        metadata: dict[str, Any],
        *,
        pooling: str,
    ) -> None:
        super().__init__(taxonomy, metadata)
        self.classifier, self.pooling = CalibratedClassifier(network, labels), pooling

    def probabilities(self, **features: torch.Tensor) -> torch.Tensor:
        """Of all labels, as the system gives them."""
        frames = self.classifier(**features)
        return complete_labels(pool_frames(frames, self.pooling), self.classifier.labels, self.taxonomy)


class HierarchicalSystem(System):
    """A root, which predicts at least the coarse labels, and a network for each group with one of its own.

    By the report's rule, for each clip the network of the most probable coarse class runs, and those of the
    other classes above the threshold.

    Parameters
    ----------
    nodes : mapping of str to Answers
        By name: "root" and coarse labels.
    taxonomy : Taxonomy
    metadata : dict
    threshold : float
        Coarse probability above which a group's network runs.
    unselected : {"keep", "zero"}
        What the fine labels of groups that do not run are: the root's, if it has any, those of groups with
        only one among them; or 0, and such a one label has the coarse probability.
    """

    def __init__(
        self,
        nodes: Mapping[str, CalibratedClassifier],
        taxonomy: Taxonomy,
        metadata: dict[str, Any],
        *,
        threshold: float,
        unselected: str,
    ) -> None:
        super().__init__(taxonomy, metadata)
        self.threshold = threshold
        self.root = nodes[ROOT]
        self.groups = nn.ModuleDict(
            {str(g): nodes[label] for g, label in enumerate(taxonomy.coarse) if label in nodes}
        )
        self.keep = unselected == "keep" and bool(set(self.root.labels) & set(taxonomy.fine))

    def probabilities(self, **features: torch.Tensor) -> torch.Tensor:
        """Of all labels, as the system gives them."""
        root = complete_labels(self.root(**features), self.root.labels, self.taxonomy)
        coarse = root[:, : len(self.taxonomy.coarse)]
        top = nn.functional.one_hot(coarse.argmax(dim=1), coarse.shape[1]).bool()
        runs = (coarse > self.threshold) | top
        columns = list(root.unbind(1))
        for group in range(coarse.shape[1]):
            members = [coarse.shape[1] + index for index in self.taxonomy.members(group)]
            others = [columns[member] if self.keep else torch.zeros_like(root[:, 0]) for member in members]
            if str(group) in self.groups:
                fine = self._predict_group(self.groups[str(group)], runs[:, group], features)
                others = [
                    torch.where(runs[:, group], own, other)
                    for own, other in zip(fine.unbind(1), others, strict=True)
                ]
            elif len(members) == 1 and not self.keep:
                others = [coarse[:, group]]
            for member, column in zip(members, others, strict=True):
                columns[member] = column
        return torch.stack(columns, dim=1)

    @staticmethod
    def _predict_group(
        classifier: CalibratedClassifier, runs: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """A group's fine probabilities, of use where it runs."""
        known = [column for column, label in enumerate(classifier.labels) if label != OTHER]
        if torch.compiler.is_exporting():  # a graph asks all of all clips
            return classifier(**features)[:, known]
        out = torch.zeros(len(runs), len(known), device=runs.device)
        if runs.any():
            out[runs] = classifier(**{name: values[runs] for name, values in features.items()})[:, known]
        return out


class EnsembleSystem(System):
    """Several systems, whose probabilities are averaged; its inputs are named as its features.

    Parameters
    ----------
    members : list of System
    taxonomy : Taxonomy
    metadata : dict
    shares : mapping of str to list of float
        Of each member in the average, by level; they sum to 1.
    """

    def __init__(
        self,
        members: list[System],
        taxonomy: Taxonomy,
        metadata: dict[str, Any],
        *,
        shares: Mapping[str, list[float]],
    ) -> None:
        super().__init__(taxonomy, metadata)
        self.members = nn.ModuleList(members)
        self.inputs = [dict(member.metadata["inputs"]) for member in members]
        levels = (("coarse", taxonomy.coarse), ("fine", taxonomy.fine))
        columns = [share for name, labels in levels for share in [shares[name]] * len(labels)]
        self.register_buffer("shares", torch.tensor(columns).T.contiguous(), persistent=False)
        if self.shares.shape != (len(members), len(taxonomy.labels)):
            raise ValueError(f"shares of {len(self.shares)} members for {len(members)}")

    def probabilities(self, **features: torch.Tensor) -> torch.Tensor:
        """Of all labels, as the system gives them."""
        return sum(
            shares * member(**{name: features[feature] for name, feature in inputs.items()})
            for member, inputs, shares in zip(self.members, self.inputs, self.shares, strict=True)
        )


def pool_frames(frames: torch.Tensor, pooling: str) -> torch.Tensor:
    """Clip probabilities (n, labels) from those of frames (n, frames, labels); see `FrameSystem`."""
    if pooling == "max":
        return frames.amax(dim=1)
    if pooling == "softmax":
        return (frames * torch.softmax(frames, dim=1)).sum(dim=1)
    return frames.mean(dim=1)
