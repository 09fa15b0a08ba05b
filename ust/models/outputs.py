"""Mapping from a network's outputs to all labels, and the hierarchy that a taxonomy implies."""

import torch

from ust.annotations.taxonomy import Taxonomy

ROOT = "root"
OTHER = "other"  # output of a fine classifier for clips of other groups


def output_labels(labels: str, taxonomy: Taxonomy) -> list[str]:
    """Return the labels of a network's outputs: "all", "fine" or "coarse".

    "fine" is the finest label that each group has: a group without fine labels contributes its coarse one.
    """
    if labels == "fine":
        groups = range(len(taxonomy.coarse))
        return [name for g in groups for name in taxonomy.fine_labels(g) or [taxonomy.coarse[g]]]
    return list({"all": taxonomy.labels, "coarse": taxonomy.coarse}[labels])


def complete_labels(outputs: torch.Tensor, labels: list[str], taxonomy: Taxonomy) -> torch.Tensor:
    """Complete a network's outputs (n, outputs) to probabilities of all labels, coarse first.

    A missing coarse probability is the maximum over its group's fine ones. A missing fine probability is 0,
    and so is that of a group without fine labels.
    """
    columns = dict.fromkeys(taxonomy.labels, torch.zeros_like(outputs[:, 0]))
    columns |= zip(labels, outputs.unbind(1), strict=True)
    for group, label in enumerate(taxonomy.coarse):
        members = [columns[fine] for fine in taxonomy.fine_labels(group)]
        if label not in labels and members:
            columns[label] = torch.stack(members, dim=1).amax(dim=1)
    return torch.stack([columns[label] for label in taxonomy.labels], dim=1)


def raise_coarse_to_fine(probabilities: torch.Tensor, taxonomy: Taxonomy) -> torch.Tensor:
    """Raise each coarse probability to the maximum of its group's fine ones, if it is lower."""
    columns = list(probabilities.unbind(1))
    for group in range(len(taxonomy.coarse)):
        members = [len(taxonomy.coarse) + index for index in taxonomy.fine_indices(group)]
        columns[group] = probabilities[:, [group, *members]].amax(dim=1)
    return torch.stack(columns, dim=1)


def groups_with_classifier(taxonomy: Taxonomy) -> list[int]:
    """Return the groups that have a classifier in a hierarchy: those with more than one fine label."""
    return [group for group in range(len(taxonomy.coarse)) if len(taxonomy.fine_indices(group)) > 1]
