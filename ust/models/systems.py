"""Trained systems: modules that map features to the probabilities of all labels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ust.annotations.taxonomy import Taxonomy
from ust.models.outputs import OTHER, ROOT, complete_labels, raise_coarse_to_fine


class System(nn.Module):
    """Base class of systems, from features to probabilities of all labels, coarse first [shape=(n, labels)].

    A subclass implements ``probabilities``, whose keyword arguments are the system's inputs.

    Attributes
    ----------
    metadata : dict
        Metadata of the checkpoint, such as the provenance of its features.
    coarse_at_least_fine : bool
        Whether to raise coarse probabilities to the maximum of their fine ones.
    """

    def __init__(self, taxonomy: Taxonomy, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.taxonomy, self.metadata = taxonomy, metadata
        self.coarse_at_least_fine = False

    def forward(self, **features: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of all labels."""
        probabilities = self.probabilities(**features)
        if self.coarse_at_least_fine:
            return raise_coarse_to_fine(probabilities, self.taxonomy)
        return probabilities


class CalibratedClassifier(nn.Module):
    """Sigmoid of a network's logits, Platt-scaled if a calibration is given.

    Parameters
    ----------
    network : torch.nn.Module
        Called with those of the features that its ``inputs`` name.
    labels : list of str
        Labels of the outputs.
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
        """Return probabilities [shape=(n, outputs)]."""
        logits = self.network(**{name: features[name] for name in self.network.inputs})
        if self.scale is not None:
            logits = logits * self.scale + self.shift
        return torch.sigmoid(logits)


class FlatSystem(System):
    """One network for all labels; a coarse label without output is the maximum of its fine labels.

    If `metadata` has ``calibration``, it is applied.
    """

    def __init__(
        self, network: nn.Module, labels: list[str], taxonomy: Taxonomy, metadata: dict[str, Any]
    ) -> None:
        super().__init__(taxonomy, metadata)
        self.classifier = CalibratedClassifier(network, labels, metadata.get("calibration"))

    def probabilities(self, **features: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of all labels."""
        return complete_labels(self.classifier(**features), self.classifier.labels, self.taxonomy)


class FrameSystem(System):
    """A frame classifier whose probabilities are pooled over each clip; missing labels as in `FlatSystem`.

    Parameters
    ----------
    labels : list of str
        Labels of the outputs.
    pooling : {"mean", "max", "softmax"}
        "softmax" is the mean weighted by the softmax of the probabilities over frames.
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
        """Return the probabilities of all labels."""
        frames = self.classifier(**features)
        return complete_labels(pool_frames(frames, self.pooling), self.classifier.labels, self.taxonomy)


class HierarchicalSystem(System):
    """A root network for the coarse labels, and a network for the fine labels of each group.

    As in the report, a clip is passed to the network of its most probable coarse class and to those of all
    classes above the threshold.

    Parameters
    ----------
    nodes : mapping of str to CalibratedClassifier
        By node: "root" and coarse labels.
    threshold : float
        Coarse probability above which a group's network runs.
    unselected : {"keep", "zero"}
        Fine probabilities of groups without a network or whose network does not run. "keep" takes the root's,
        if it predicts fine labels. With "zero" they are 0, except that the only fine label of a group takes
        its coarse probability.
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
        """Return the probabilities of all labels."""
        root = complete_labels(self.root(**features), self.root.labels, self.taxonomy)
        coarse = root[:, : len(self.taxonomy.coarse)]
        top = nn.functional.one_hot(coarse.argmax(dim=1), coarse.shape[1]).bool()
        runs = (coarse > self.threshold) | top
        columns = list(root.unbind(1))
        for group in range(coarse.shape[1]):
            members = [coarse.shape[1] + index for index in self.taxonomy.fine_indices(group)]
            fine = [columns[member] if self.keep else torch.zeros_like(root[:, 0]) for member in members]
            if str(group) in self.groups:
                predicted = self._predict_group(self.groups[str(group)], runs[:, group], features)
                fine = [
                    torch.where(runs[:, group], column, fallback)
                    for column, fallback in zip(predicted.unbind(1), fine, strict=True)
                ]
            elif len(members) == 1 and not self.keep:
                fine = [coarse[:, group]]
            for member, column in zip(members, fine, strict=True):
                columns[member] = column
        return torch.stack(columns, dim=1)

    @staticmethod
    def _predict_group(
        classifier: CalibratedClassifier, runs: torch.Tensor, features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return a group's fine probabilities for the clips on which its network runs; 0 for the others."""
        known = [column for column, label in enumerate(classifier.labels) if label != OTHER]
        if torch.compiler.is_exporting():  # an exported graph has no data-dependent selection
            return classifier(**features)[:, known]
        out = torch.zeros(len(runs), len(known), device=runs.device)
        if runs.any():
            out[runs] = classifier(**{name: values[runs] for name, values in features.items()})[:, known]
        return out


class EnsembleSystem(System):
    """Weighted average of several systems; its inputs are named after the features.

    Parameters
    ----------
    shares : mapping of str to list of float
        By level, the weight of each member in the average; they sum to 1.
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
        """Return the probabilities of all labels."""
        return sum(
            shares * member(**{name: features[feature] for name, feature in inputs.items()})
            for member, inputs, shares in zip(self.members, self.inputs, self.shares, strict=True)
        )


def pool_frames(frames: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool frame probabilities (n, frames, labels) to clip probabilities (n, labels); see `FrameSystem`."""
    if pooling == "max":
        return frames.amax(dim=1)
    if pooling == "softmax":
        return (frames * torch.softmax(frames, dim=1)).sum(dim=1)
    return frames.mean(dim=1)
