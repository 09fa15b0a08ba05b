"""Training a local classifier for every parent node of the taxonomy (the report's section 4.2)."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from ust.errors import UserError
from ust.examples import Examples
from ust.hierarchy import OTHER, ROOT, node_labels, parents
from ust.params import HierarchicalSystem
from ust.schedule import EarlyStopping
from ust.taxonomy import Taxonomy
from ust.training.state import TrainingState
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
    k = len(taxonomy.coarse)
    root = (each.having(slice(None), each.targets[:, :k]) for each in (examples, validate))
    yield Node(ROOT, list(taxonomy.coarse), *root)
    for group in parents(taxonomy):
        if (examples.targets[:, group] > 0.5).sum() >= FEWEST:
            labels = node_labels(taxonomy, group) + ([OTHER] if negatives else [])
            own = (_of_group(each, taxonomy, group, negatives) for each in (examples, validate))
            yield Node(taxonomy.coarse[group], labels, *own)


def untrained(trained: list[str], taxonomy: Taxonomy) -> list[str]:
    """The coarse labels whose groups need a classifier and have none."""
    return [taxonomy.coarse[group] for group in parents(taxonomy) if taxonomy.coarse[group] not in trained]


def _of_group(examples: Examples, taxonomy: Taxonomy, group: int, negatives: bool) -> Examples:
    """The examples of a group's classifier, with its targets."""
    inside = examples.targets[:, group] > 0.5
    targets = examples.targets[:, [len(taxonomy.coarse) + index for index in taxonomy.members(group)]]
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
    state: TrainingState | None = None,
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
    state : TrainingState, optional
        Where to go on from, for which `on_epoch` is not called again; kept up to date.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    trainer = Trainer(network, node.train, recipe, device=device, name=node.name)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        trainer.optimizer, factor=recipe.reduce_factor, patience=recipe.reduce_patience
    )
    stopping = EarlyStopping(recipe.stop_patience)
    state = state or TrainingState()
    if state.epochs:
        trainer.restore(state)
        plateau.load_state_dict(state.values["plateau"])
        stopping.lowest, stopping.since = state.values["stopping"]
    for number in range(len(state.epochs) + 1, recipe.max_epochs + 1):
        if stopping.exhausted:
            break
        lr = trainer.optimizer.param_groups[0]["lr"]
        loss = trainer.epoch(number)
        watched = trainer.loss(node.validate if len(node.validate) else node.train)
        epoch = Epoch(number, loss, watched, lr, best=stopping.step(watched))
        on_epoch(epoch)
        plateau.step(watched)
        trainer.keep(state)
        state.values |= {"plateau": plateau.state_dict(), "stopping": [stopping.lowest, stopping.since]}
        state.epochs.append(asdict(epoch))
        state.write()
