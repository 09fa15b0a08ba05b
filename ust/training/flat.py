"""What a flat network is scored by while it is trained, and what is kept of it."""

import numpy as np

from ust.inference import complete_probabilities
from ust.metrics import coarse_counts, fine_counts, score
from ust.taxonomy import Taxonomy
from ust.training.stagnation import Score


def flat_score(labels: list[str], truth: np.ndarray, taxonomy: Taxonomy) -> Score:
    """The score of a network for some labels: the official micro AUPRC of each level that it can predict.

    Parameters
    ----------
    labels : list of str
        Of the network's outputs.
    truth : numpy.ndarray [shape=(n, all labels)]
        Of what is predicted, coarse first; the fine ones may be left out where they are not predicted.
    taxonomy : Taxonomy
    """
    k = len(taxonomy.coarse)
    has_fine = bool(set(labels) & set(taxonomy.fine))

    def of(outputs: np.ndarray) -> dict[str, float]:
        # In the precision of the prediction files, so that ties are the same there.
        predicted = complete_probabilities(outputs, labels, taxonomy).astype(np.float64).round(6)
        counts = {"coarse": coarse_counts(truth[:, :k], predicted[:, :k], taxonomy)}
        if has_fine:
            counts["fine"] = fine_counts(truth[:, k:], predicted[:, k:], taxonomy)
        return {level: score(found, taxonomy).micro_auprc for level, found in counts.items()}

    return of
