"""From a network's outputs to the probabilities of all labels, and the hierarchy that a taxonomy implies."""

import torch

from ust.annotations.taxonomy import Taxonomy
from ust.files.errors import UserError, some

ROOT = "root"
OTHER = "other"  # a fine classifier's output for clips of other groups


def output_labels(labels: str, taxonomy: Taxonomy) -> list[str]:
    """The labels that a network has outputs for: "all", "fine" or "coarse".

    Raises
    ------
    UserError
        If they are the fine ones, and a group has none that its coarse one could be told by.
    """
    if labels == "fine" and len(taxonomy.groups("fine")) < len(taxonomy.coarse):
        without = [name for g, name in enumerate(taxonomy.coarse) if not taxonomy.members(g)]
        raise UserError(f"outputs are fine, but {some(without)} has no fine labels; set outputs to all")
    return list({"all": taxonomy.labels, "fine": taxonomy.fine, "coarse": taxonomy.coarse}[labels])


def complete(outputs: torch.Tensor, labels: list[str], taxonomy: Taxonomy) -> torch.Tensor:
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


def parents(taxonomy: Taxonomy) -> list[int]:
    """The groups that need a classifier of their own: those with more than one fine label."""
    return [group for group in range(len(taxonomy.coarse)) if len(taxonomy.members(group)) > 1]


def node_labels(taxonomy: Taxonomy, group: int) -> list[str]:
    """The fine labels of a group."""
    return [taxonomy.fine[index] for index in taxonomy.members(group)]
