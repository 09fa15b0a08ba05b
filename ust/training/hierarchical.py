"""Training a local classifier for every parent node of the taxonomy (the report's section 4.2)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ust.errors import UserError
from ust.examples import Examples
from ust.hierarchy import OTHER, ROOT, node_labels, parents
from ust.params import HierarchicalSystem
from ust.taxonomy import Taxonomy
from ust.training.trainer import Trainer

FEWEST = 2  # batch norm cannot train on one


@dataclass(frozen=True)
class Node:
    """What a local classifier is trained on.

    Attributes
    ----------
    name : str
        "coarse" or a coarse label.
    labels : list of str
        Of its outputs.
    train, validate : Examples
        `validate` may be empty.
    """

    name: str
    labels: list[str]
    train: Examples
    validate: Examples


@dataclass(frozen=True)
class Epoch:
    """What an epoch of a local classifier came to; `best` when its validation loss is the lowest so far."""

    number: int
    loss: float
    validation_loss: float
    lr: float
    best: bool


def nodes(examples: Examples, validate: Examples, taxonomy: Taxonomy, *, negatives: bool) -> Iterator[Node]:
    """The local classifiers to train: the root, then every group with several fine labels.

    Parameters
    ----------
    examples, validate : Examples
        With targets of all labels, coarse first.
    negatives : bool
        Train fine classifiers on all clips, with one more output for "not this group", instead of only on
        the clips of their group (those with a coarse target over one half).

    Yields
    ------
    Node
        Groups with fewer than two clips to train on are left out.

    Raises
    ------
    UserError
        If even the root has fewer.
    """
    if len(examples) < FEWEST:
        raise UserError("a network needs at least two clips to train on")
    yield Node(ROOT, list(taxonomy.coarse), *(_of(e, taxonomy, None, False) for e in (examples, validate)))
    for group in parents(taxonomy):
        train, check = (_of(e, taxonomy, group, negatives) for e in (examples, validate))
        inside = examples.targets[:, group] > 0.5
        if min(inside.sum(), len(train)) >= FEWEST:
            labels = node_labels(taxonomy, group) + ([OTHER] if negatives else [])
            yield Node(taxonomy.coarse[group], labels, train, check)


def untrained(trained: list[str], taxonomy: Taxonomy) -> list[str]:
    """The coarse labels whose groups need a classifier and have none."""
    return [taxonomy.coarse[group] for group in parents(taxonomy) if taxonomy.coarse[group] not in trained]


def _of(examples: Examples, taxonomy: Taxonomy, group: int | None, negatives: bool) -> Examples:
    """The examples of a node, with its targets."""
    k = len(taxonomy.coarse)
    if group is None:
        return examples.having(slice(None), examples.targets[:, :k])
    inside = examples.targets[:, group] > 0.5
    columns = [k + index for index, g in enumerate(taxonomy.group) if g == group]
    targets = examples.targets[:, columns]
    if negatives:
        other = (~inside)[:, None].astype(np.float32)
        return examples.having(slice(None), np.hstack([targets, other]))
    return examples.having(inside, targets[inside])


def train_node(
    network: nn.Module,
    node: Node,
    recipe: HierarchicalSystem,
    *,
    device: torch.device,
    on_epoch: Callable[[Epoch], None],
) -> None:
    """Train a local classifier in place, as the report's code did: reduce the rate on a plateau, stop early.

    What is watched is the loss on validate, or on train where validate has no clip of the node.

    Parameters
    ----------
    network : torch.nn.Module
    node : Node
    recipe : HierarchicalSystem
    device : torch.device
    on_epoch : callable
        Called after each epoch, when the network holds its weights: the place to save the best.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    trainer = Trainer(network, node.train, recipe, device=device, name=node.name)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        trainer.optimizer, factor=recipe.reduce_factor, patience=recipe.reduce_patience
    )
    best, since = np.inf, 0
    for number in range(1, recipe.max_epochs + 1):
        lr = trainer.optimizer.param_groups[0]["lr"]
        loss = trainer.epoch(number)
        watched = trainer.loss(node.validate if len(node.validate) else node.train)
        since = 0 if watched < best else since + 1
        best = min(best, watched)
        on_epoch(Epoch(number, loss, watched, lr, best=since == 0))
        if since >= recipe.stop_patience:
            break
        plateau.step(watched)
