"""What the local classifiers of a hierarchy are trained on and scored by (the report's section 4.2)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ust.errors import UserError
from ust.examples import Examples
from ust.hierarchy import OTHER, ROOT, node_labels, parents
from ust.metrics import fine_counts, score
from ust.taxonomy import Taxonomy
from ust.training.flat import flat_score
from ust.training.stagnation import Score

FEWEST = 2  # batch norm cannot train on one


@dataclass(frozen=True)
class Node:
    """What a local classifier is trained on.

    Attributes
    ----------
    name : str
        "root" or a coarse label.
    labels : list of str
        Of its outputs.
    train, validate : Examples
        `validate` may be empty.
    """

    name: str
    labels: list[str]
    train: Examples
    validate: Examples

    @property
    def watched(self) -> Examples:
        """What its training is watched on: validate, or train where validate has nothing of the node's."""
        own = [column for column, label in enumerate(self.labels) if label != OTHER]
        return self.validate if self.validate.targets[:, own].any() else self.train


def nodes(
    examples: Examples, validate: Examples, taxonomy: Taxonomy, *, negatives: bool, root: bool
) -> Iterator[Node]:
    """The local classifiers to train: the root, if it is to be one of its own, then those of the groups.

    Parameters
    ----------
    examples, validate : Examples
        With targets of all labels, coarse first.
    negatives : bool
        Train fine classifiers on all clips, with one more output for "not this group", instead of only on
        the clips of their group (those with a coarse target over one half).
    root : bool
        Whether the root is trained, too, for the coarse labels.

    Yields
    ------
    Node
        Of every group with several fine labels; those with fewer than two clips to train on are left out.

    Raises
    ------
    UserError
        If there are fewer than two clips at all.
    """
    if len(examples) < FEWEST:
        raise UserError("a network needs at least two clips to train on")
    k = len(taxonomy.coarse)
    if root:
        both = (each.having(slice(None), each.targets[:, :k]) for each in (examples, validate))
        yield Node(ROOT, list(taxonomy.coarse), *both)
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


def node_score(node: Node, taxonomy: Taxonomy) -> Score:
    """The score of a local classifier: the official micro AUPRC, a group's the fine one of itself alone.

    Parameters
    ----------
    node : Node
        Predicted is what it is watched on.
    taxonomy : Taxonomy
    """
    if node.name == ROOT:
        return flat_score(node.labels, node.watched.targets > 0.5, taxonomy)
    own = [column for column, label in enumerate(node.labels) if label != OTHER]
    alone = Taxonomy((node.name,), tuple(node.labels[column] for column in own), (0,) * len(own))
    truth = (node.watched.targets[:, own] > 0.5).astype(np.int8)

    def of(outputs: np.ndarray) -> dict[str, float]:
        probabilities = outputs[:, own].astype(np.float64).round(6)
        return {"fine": score(fine_counts(truth, probabilities, alone), alone).micro_auprc}

    return of
