"""Training of a hierarchy of local classifiers (the report's section 4.2), one per node."""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ust.annotations.taxonomy import Taxonomy
from ust.evaluation.metrics import compute_scores, fine_counts
from ust.models.checkpoints import (
    MODEL_FILE,
    WEIGHTS_FILE,
    SavedNetwork,
    count_parameters,
    load_network,
    save_hierarchy,
    save_network,
    update_metadata,
)
from ust.models.examples import Examples
from ust.models.outputs import OTHER, ROOT, groups_with_classifier, node_labels
from ust.training import plateau, stagnation
from ust.training.flat import flat_score
from ust.training.stagnation import Score
from ust.training.trainer import Task
from ust.training.work import TrainingContext, TrainingData
from ust.util.errors import UserError

log = logging.getLogger("ust")
FEWEST = 2  # examples; batch norm cannot train on one


@dataclass(frozen=True)
class Node:
    """A local classifier's labels and examples.

    Attributes
    ----------
    name : str
        "root" or a coarse label.
    labels : list of str
        Labels of the outputs.
    train, validate : Examples
        `validate` may be empty.
    """

    name: str
    labels: list[str]
    train: Examples
    validate: Examples

    @property
    def monitored(self) -> Examples:
        """The examples to monitor training on: validate or, if it has no positives of the node, train."""
        columns = [column for column, label in enumerate(self.labels) if label != OTHER]
        return self.validate if self.validate.targets[:, columns].any() else self.train


def fit_hierarchy(system: Any, data: TrainingData, context: TrainingContext) -> None:
    """Train or copy the root, and train a network for each group with several fine labels."""
    trained, parameters, converged = [], 0, []
    if system.root == "flat":
        root = copy_root(context)
        trained.append(ROOT)
        parameters += count_parameters(root.network)
        converged.append(root.metadata.get("converged", False))
    for node in build_nodes(
        data.train, data.validate, context.taxonomy, negatives=system.negatives, root=system.root == "own"
    ):
        network = context.network(system, len(node.labels), node.name, node.train)
        converged.append(fit_node(network, node, system, context))
        trained.append(node.name)
        parameters += count_parameters(network)
    for label in untrained_groups(trained, context.taxonomy):
        log.warning("warning: too few clips of %s to train on: its fine labels are the root's, or 0", label)
    metadata = context.metadata | {"outputs": "all", "parameters": parameters, "converged": all(converged)}
    save_hierarchy(context.out, trained, metadata)


def fit_node(network: torch.nn.Module, node: Node, system: Any, context: TrainingContext) -> bool:
    """Train one network of the hierarchy and save its best checkpoint; return whether it converged."""

    def on_epoch(epoch: Any) -> None:
        if epoch.best:
            chosen_by = {"epoch": epoch.number} | {
                key: value
                for key, value in epoch.figures().items()
                if key in ("coarse", "fine", "validation_loss")
            }
            metadata = chosen_by | context.metadata
            shapes = node.train.shapes
            saved = SavedNetwork(network, system.architecture, system.config, node.labels, metadata, shapes)
            save_network(context.out / node.name, saved)
        context.callbacks.on_epoch(node.name, epoch)

    on_plateau = isinstance(system, plateau.Plateau)
    state = context.state(node.name, node.name, plateau.Epoch if on_plateau else stagnation.Epoch)
    task = Task(
        network, node.train, node.monitored, context.device, node.name, on_epoch, state, context.progress
    )
    if on_plateau:
        epochs = plateau.train_on_plateau(task, system)
        converged = plateau.stopped_early(epochs, system.stop_patience)
    else:
        epochs = stagnation.train_on_stagnation(task, system, node_score(node, context.taxonomy))
        (level,) = epochs[0].scores
        converged = stagnation.has_converged(epochs, level, system.patience)
    update_metadata(context.out / node.name, epochs=len(epochs), converged=converged)
    return converged


def build_nodes(
    examples: Examples, validate: Examples, taxonomy: Taxonomy, *, negatives: bool, root: bool
) -> Iterator[Node]:
    """Yield the local classifiers to train: the root, if it is trained, then one per group.

    Groups with fewer than two train clips are skipped.

    Parameters
    ----------
    examples, validate : Examples
        With targets of all labels, coarse first.
    taxonomy : Taxonomy
    negatives : bool
        Train the groups' classifiers on all clips, with an additional output for other groups, instead of
        only on clips with a coarse target above one half.
    root : bool
        Whether to train a root for the coarse labels.

    Yields
    ------
    Node

    Raises
    ------
    UserError
        If there are fewer than two train clips.
    """
    if len(examples) < FEWEST:
        raise UserError("a network needs at least two clips to train on")
    k = len(taxonomy.coarse)
    if root:
        root_examples = (
            split_examples.subset(slice(None), split_examples.targets[:, :k])
            for split_examples in (examples, validate)
        )
        yield Node(ROOT, list(taxonomy.coarse), *root_examples)
    for group in groups_with_classifier(taxonomy):
        if (examples.targets[:, group] > 0.5).sum() >= FEWEST:
            labels = node_labels(taxonomy, group) + ([OTHER] if negatives else [])
            group_examples = (
                _group_examples(split_examples, taxonomy, group, negatives)
                for split_examples in (examples, validate)
            )
            yield Node(taxonomy.coarse[group], labels, *group_examples)


def untrained_groups(trained: list[str], taxonomy: Taxonomy) -> list[str]:
    """Return the coarse labels of groups that should have a classifier but have none."""
    return [
        taxonomy.coarse[group]
        for group in groups_with_classifier(taxonomy)
        if taxonomy.coarse[group] not in trained
    ]


def _group_examples(examples: Examples, taxonomy: Taxonomy, group: int, negatives: bool) -> Examples:
    """Return the examples of a group's classifier, with its targets."""
    inside = examples.targets[:, group] > 0.5
    targets = examples.targets[:, [len(taxonomy.coarse) + index for index in taxonomy.members(group)]]
    if negatives:
        other = (~inside)[:, None].astype(np.float32)
        return examples.subset(slice(None), np.hstack([targets, other]))
    return examples.subset(inside, targets[inside])


def node_score(node: Node, taxonomy: Taxonomy) -> Score:
    """Return a function from a node's outputs to its official micro AUPRC.

    A group is scored on its own fine labels alone.

    Parameters
    ----------
    node : Node
        Its monitored examples are those that are predicted.
    taxonomy : Taxonomy
    """
    if node.name == ROOT:
        return flat_score(node.labels, node.monitored.targets > 0.5, taxonomy)
    columns = [column for column, label in enumerate(node.labels) if label != OTHER]
    group_taxonomy = Taxonomy(
        (node.name,), tuple(node.labels[column] for column in columns), (0,) * len(columns)
    )
    truth = (node.monitored.targets[:, columns] > 0.5).astype(np.int8)

    def score_node(outputs: np.ndarray) -> dict[str, float]:
        probabilities = outputs[:, columns].astype(np.float64).round(6)
        counts = fine_counts(truth, probabilities, group_taxonomy)
        return {"fine": compute_scores(counts, group_taxonomy.categories("fine")).micro_auprc}

    return score_node


def check_root(root: Path | None) -> None:
    """Check that a checkpoint is given for a hierarchy whose root is a flat network.

    Raises
    ------
    UserError
        If no checkpoint is given.
    """
    if root is None:
        raise UserError(
            "the root of this hierarchy is a flat network: name its checkpoint with --root, such as "
            "models/cnn_vggish/coarse, or set root to own"
        )


def copy_root(context: TrainingContext) -> SavedNetwork:
    """Copy the flat network that is the root into the hierarchy's folder.

    Raises
    ------
    UserError
        If there is no such network, or it was trained on other features or another taxonomy.
    """
    check_root(context.root)
    root = load_network(context.root)
    metadata = json.loads(json.dumps(context.metadata))
    features = root.metadata.get("features", {})
    for key, actual, expected in [("taxonomy", root.metadata.get("taxonomy"), metadata.get("taxonomy"))] + [
        (name, actual, metadata.get("features", {}).get(name)) for name, actual in features.items()
    ]:
        if actual != expected:
            raise UserError(
                f"{context.root}: was trained with another {key}; train it again, on the same features"
            )
    (context.out / ROOT).mkdir(parents=True, exist_ok=True)
    for file in (WEIGHTS_FILE, MODEL_FILE):
        shutil.copyfile(context.root / file, context.out / ROOT / file)
    return root
