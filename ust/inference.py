"""From a network's outputs to the probabilities of all labels."""

import numpy as np
import torch
from torch import nn

from ust.examples import Examples
from ust.taxonomy import Taxonomy


def output_labels(labels: str, taxonomy: Taxonomy) -> list[str]:
    """The labels that a network has outputs for: "all", "fine" or "coarse"."""
    return list({"all": taxonomy.labels, "fine": taxonomy.fine, "coarse": taxonomy.coarse}[labels])


def complete_probabilities(outputs: np.ndarray, labels: list[str], taxonomy: Taxonomy) -> np.ndarray:
    """Probabilities of all labels from those of a network's outputs.

    Missing coarse ones are the maximum over the group's fine ones; missing fine ones are 0.

    Parameters
    ----------
    outputs : numpy.ndarray [shape=(n, outputs)]
    labels : list of str
        What the outputs are of.

    Returns
    -------
    numpy.ndarray [shape=(n, coarse + fine)]
    """
    column = {label: index for index, label in enumerate(labels)}
    out = np.zeros((len(outputs), len(taxonomy.labels)), outputs.dtype)
    for index, label in enumerate(taxonomy.labels):
        if label in column:
            out[:, index] = outputs[:, column[label]]
    for g, label in enumerate(taxonomy.coarse):
        if label not in column:
            members = [len(taxonomy.coarse) + i for i in taxonomy.members(g)]
            out[:, g] = out[:, members].max(axis=1)
    return out


def predict(network: nn.Module, examples: Examples, *, batch_size: int, device: torch.device) -> np.ndarray:
    """Probabilities [shape=(n, outputs), float32] of examples in their order."""
    network.eval()
    with torch.inference_mode():
        batches = [
            torch.sigmoid(network(logmel, vggish)).cpu().numpy()
            for logmel, vggish, _ in examples.batches(batch_size, device=device)
        ]
    return np.concatenate(batches)
