"""From a network's outputs to the probabilities of all labels, and the hierarchy that a taxonomy implies."""

import torch

from ust.annotations.taxonomy import Taxonomy

ROOT = "root"
OTHER = "other"  # a fine classifier's output for clips of other groups


def output_labels(labels: str, taxonomy: Taxonomy) -> list[str]:
    """The labels that a network has outputs for: "all", "fine" or "coarse".

    The fine ones are the finest that there are: a group without any has its coarse one among them.
    """
    if labels == "fine":
        groups = range(len(taxonomy.coarse))
        return [name for g in groups for name in node_labels(taxonomy, g) or [taxonomy.coarse[g]]]
    return list({"all": taxonomy.labels, "coarse": taxonomy.coarse}[labels])


def complete_labels(outputs: torch.Tensor, labels: list[str], taxonomy: Taxonomy) -> torch.Tensor:
    """Probabilities of all labels from those of a network's outputs.

    Missing coarse ones are the maximum over the group's fine ones; missing fine ones are 0.

    Parameters
    ----------
    outputs : torch.Tensor [shape=(n, outputs)]
    labels : list of str
        What the outputs are of.

    Returns
    -------
    torch.Tensor [shape=(n, coarse + fine)]
    """
    columns = dict.fromkeys(taxonomy.labels, torch.zeros_like(outputs[:, 0]))
    columns |= zip(labels, outputs.unbind(1), strict=True)
    for group, label in enumerate(taxonomy.coarse):
        if label not in labels:
            members = [columns[taxonomy.fine[index]] for index in taxonomy.members(group)]
            columns[label] = torch.stack(members, dim=1).amax(dim=1)
    return torch.stack([columns[label] for label in taxonomy.labels], dim=1)


def raise_coarse_to_fine(probabilities: torch.Tensor, taxonomy: Taxonomy) -> torch.Tensor:
    """Raise coarse probabilities to the highest of their fine ones, where they are lower.

    Parameters
    ----------
    probabilities : torch.Tensor [shape=(n, coarse + fine)]
    taxonomy : Taxonomy

    Returns
    -------
    torch.Tensor [shape=(n, coarse + fine)]
    """
    columns = list(probabilities.unbind(1))
    for group in range(len(taxonomy.coarse)):
        members = [len(taxonomy.coarse) + index for index in taxonomy.members(group)]
        columns[group] = probabilities[:, [group, *members]].amax(dim=1)
    return torch.stack(columns, dim=1)


def groups_with_classifier(taxonomy: Taxonomy) -> list[int]:
    """The groups that need a classifier of their own: those with more than one fine label."""
    return [group for group in range(len(taxonomy.coarse)) if len(taxonomy.members(group)) > 1]


def node_labels(taxonomy: Taxonomy, group: int) -> list[str]:
    """The fine labels of a group."""
    return [taxonomy.fine[index] for index in taxonomy.members(group)]
