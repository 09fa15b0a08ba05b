"""The trainer ``train_hierarchical``: local classifiers per parent node, as in the report (section 4.2).

The root predicts the coarse labels. Each coarse label with several fine ones has a network of its own for
them. The networks are trained as those of ``train``.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from ust.models.outputs import OTHER, ROOT, groups_with_classifier
from ust.training.config import HierarchyRow, SystemConfig, SystemTrainer
from ust.training.context import TrainingContext, TrainingData, check_root
from ust.training.train import NetworkSettings, Score, TrainSettings, flat_score, network_trainer
from ust.training.trainer import Epoch, Trainer, epochs_since_best, monitor_scores
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


# Makes the trainer of a node's network; further arguments are those of `Trainer`.
NodeTrainer = Callable[..., Trainer]
HasConverged = Callable[[list[Epoch], Any], bool]


def fit_hierarchical(
    config: SystemConfig[HierarchyRow, TrainSettings], data: TrainingData, context: TrainingContext
) -> None:
    """Train a hierarchy whose networks are chosen by their validation scores; see `fit_hierarchy`."""
    fit_hierarchy(config, data, context, score_trainer, _has_converged)


def score_trainer(
    network: torch.nn.Module, node: Node, settings: TrainSettings, context: TrainingContext, **options: Any
) -> Trainer:
    """Return the trainer of a node's network, with the schedule and the monitoring of ``train``."""
    score = node_score(node, context.taxonomy)
    monitor = monitor_scores(node.monitored, score, 2 * settings.batch_size)
    schedule = settings.build_schedule()
    return network_trainer(
        network, node.train, settings, context, schedule=schedule, monitor=monitor, **options
    )


def _has_converged(epochs: list[Epoch], settings: TrainSettings) -> bool:
    """Return whether the last best epoch is more than the patience ago."""
    return epochs_since_best(epochs) > settings.patience


def fit_hierarchy(
    config: SystemConfig[HierarchyRow, NetworkSettings],
    data: TrainingData,
    context: TrainingContext,
    node_trainer: NodeTrainer,
    has_converged: HasConverged,
) -> None:
    """Train or copy the root, and train a network for each group with several fine labels."""
    trained, parameters, converged = [], 0, []
    if config.row.root == "flat":
        root = copy_root(context)
        trained.append(ROOT)
        parameters += count_parameters(root.network)
        converged.append(root.metadata.get("converged", False))
    own_root = config.row.root == "own"
    for node in build_nodes(
        data.train, data.validate, context.taxonomy, negatives=config.row.negatives, root=own_root
    ):
        network = context.build_network(config, len(node.labels), node.name, node.train)
        epochs = _fit_node(network, node, config, context, node_trainer)
        converged.append(has_converged(epochs, config.training))
        update_metadata(context.out / node.name, epochs=len(epochs), converged=converged[-1])
        trained.append(node.name)
        parameters += count_parameters(network)
    for label in untrained_groups(trained, context.taxonomy):
        log.warning("warning: too few clips of %s to train on: its fine labels are the root's, or 0", label)
    metadata = context.metadata | {"outputs": "all", "parameters": parameters, "converged": all(converged)}
    save_hierarchy(context.out, trained, metadata)


def _fit_node(
    network: torch.nn.Module,
    node: Node,
    config: SystemConfig,
    context: TrainingContext,
    node_trainer: NodeTrainer,
) -> list[Epoch]:
    """Train one network of the hierarchy and save its best checkpoint."""

    def on_epoch(epoch: Epoch) -> None:
        if epoch.best:
            metadata = {"epoch": epoch.number} | epoch.scores | context.metadata
            saved = context.describe_network(config, network, node.labels, node.train, metadata)
            save_network(context.out / node.name, saved)
        context.callbacks.on_epoch(node.name, epoch)

    state = context.read_state(node.name, node.name)
    return node_trainer(
        network, node, config.training, context, name=node.name, state=state, on_epoch=on_epoch
    ).fit()


def build_nodes(
    examples: Examples, validate: Examples, taxonomy: Taxonomy, *, negatives: bool, root: bool
) -> Iterator[Node]:
    """Yield the local classifiers to train: the root, if it is trained, then one per group.

    Groups with fewer than two train clips are skipped.
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
            labels = taxonomy.fine_labels(group) + ([OTHER] if negatives else [])
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
    targets = examples.targets[:, [len(taxonomy.coarse) + index for index in taxonomy.fine_indices(group)]]
    if negatives:
        other = (~inside)[:, None].astype(np.float32)
        return examples.subset(slice(None), np.hstack([targets, other]))
    return examples.subset(inside, targets[inside])


def node_score(node: Node, taxonomy: Taxonomy) -> Score:
    """Return a function from a node's outputs to its official micro AUPRC.

    A group is scored on its own fine labels alone.
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


def copy_root(context: TrainingContext) -> SavedNetwork:
    """Copy the flat network that is the root into the hierarchy's folder."""
    check_root(context.root)
    root = load_network(context.root)
    own = json.loads(json.dumps(context.metadata))  # with lists instead of tuples, as in the root's file
    expected = {"taxonomy": own.get("taxonomy")} | own.get("features", {})
    actual = {"taxonomy": root.metadata.get("taxonomy")} | root.metadata.get("features", {})
    for key, value in actual.items():
        if value != expected.get(key):
            raise UserError(
                f"{context.root}: was trained with another {key}; train it again, on the same features"
            )
    for name, feature in root.metadata.get("inputs", {}).items():
        if own.get("inputs", {}).get(name) != feature:
            raise UserError(
                f"{context.root}: takes {feature} as its {name}, {context.name} does not; give both rows the "
                "same features and context"
            )
    (context.out / ROOT).mkdir(parents=True, exist_ok=True)
    for file in (WEIGHTS_FILE, MODEL_FILE):
        shutil.copyfile(context.root / file, context.out / ROOT / file)
    return root


TRAINER = SystemTrainer(HierarchyRow, TrainSettings, fit_hierarchical, inherits="train")
