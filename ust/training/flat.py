"""Training of one network for all its labels: validation score and choice of checkpoints."""

from typing import Any

import numpy as np
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.evaluation.metrics import coarse_counts, compute_scores, fine_counts
from ust.models.checkpoints import SavedNetwork, count_parameters, save_network, update_metadata
from ust.models.outputs import complete_labels, output_labels
from ust.training import distributed
from ust.training.stagnation import Epoch, Score, has_converged, train_on_stagnation
from ust.training.trainer import Task
from ust.training.work import TrainingContext, TrainingData


def fit_flat(system: Any, data: TrainingData, context: TrainingContext) -> None:
    """Train a network and save, for each level, the checkpoint with the best validation score."""
    labels = output_labels(system.outputs, context.taxonomy)
    columns = [context.taxonomy.labels.index(label) for label in labels]
    network = context.network(system, len(labels), context.name, data.train)
    metadata = context.metadata | {"outputs": system.outputs, "parameters": count_parameters(network)}

    def on_epoch(epoch: Epoch) -> None:
        for level in epoch.best:
            checkpoint_metadata = {
                "epoch": epoch.number,
                f"{level}_micro_auprc": epoch.scores[level],
            } | metadata
            save_network(
                context.out / level,
                SavedNetwork(
                    network,
                    system.architecture,
                    system.config,
                    labels,
                    checkpoint_metadata,
                    data.train.shapes,
                ),
            )
        context.callbacks.on_epoch("", epoch)

    task = Task(
        network,
        data.train.subset(slice(None), data.train.targets[:, columns]),
        data.validate,
        context.device,
        context.name,
        on_epoch,
        context.state(context.name, "", Epoch),
        context.progress,
    )
    epochs = train_on_stagnation(task, system, flat_score(labels, data.validate.targets, context.taxonomy))
    if distributed.rank():
        return  # only the first process writes checkpoints
    for level in epochs[0].scores:
        update_metadata(
            context.out / level, epochs=len(epochs), converged=has_converged(epochs, level, system.patience)
        )


def flat_score(labels: list[str], truth: np.ndarray, taxonomy: Taxonomy) -> Score:
    """Return a function from a network's outputs to the official micro AUPRC of each level that it predicts.

    Parameters
    ----------
    labels : list of str
        Labels of the network's outputs.
    truth : numpy.ndarray [shape=(n, all labels)]
        Ground truth, coarse first; NaN where a label is not known. Fine labels may be missing if the network
        does not predict them.
    taxonomy : Taxonomy
    """
    k = len(taxonomy.coarse)
    known = ~np.isnan(truth)
    has_fine = bool(set(labels) & set(taxonomy.fine))

    def score_outputs(outputs: np.ndarray) -> dict[str, float]:
        # Rounded as in prediction files, so that ties are the same.
        completed = complete_labels(torch.tensor(outputs), labels, taxonomy).numpy()
        predicted = completed.astype(np.float64).round(6)[:, : truth.shape[1]]
        predicted = np.where(known, predicted, 0)  # which no threshold counts
        counts = {"coarse": coarse_counts(truth[:, :k], predicted[:, :k], taxonomy)}
        if has_fine:
            counts["fine"] = fine_counts(truth[:, k:], predicted[:, k:], taxonomy)
        return {
            level: compute_scores(level_counts, taxonomy.categories(level)).micro_auprc
            for level, level_counts in counts.items()
        }

    return score_outputs
