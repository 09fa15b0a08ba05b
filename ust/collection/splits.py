"""Dealing clips to train and validate: each class in both, what belongs together on one side."""

from collections.abc import Mapping

import numpy as np

from ust.files.seeding import generator


def deal(counts: Mapping[str, np.ndarray], *, validate: float, seed: int) -> dict[str, str]:
    """A split for each group of clips, so that validate has about its share of the clips of every class.

    The groups with the rarest classes are dealt first, each to the split that wants its classes most.

    Parameters
    ----------
    counts : mapping of str to numpy.ndarray [shape=(classes,)]
        By group, the clips of each class.
    validate : float
        The share.
    seed : int
        Of the order of equal groups.

    References
    ----------
    Sechidis, Tsoumakas & Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011; of groups.
    """
    names = sorted(counts)
    if not names or validate == 0:
        return dict.fromkeys(names, "train")
    table = np.stack([counts[name] for name in names]).astype(np.float64)
    total = table.sum(axis=0)
    left = {"train": (1 - validate) * total, "validate": validate * total}
    shuffled = generator(seed, "deal").permutation(len(names))
    # By its rarest class: what a group without any class is dealt by is as good as common.
    rarest = [min((total[k] for k in np.flatnonzero(row)), default=np.inf) for row in table]
    order = sorted(shuffled, key=lambda index: (rarest[index], -table[index].sum()))
    found, dealt = {}, {"train": 0.0, "validate": 0.0}
    shares = {"train": 1 - validate, "validate": validate}
    for index in order:
        row = table[index]
        classes = np.flatnonzero(row)
        if len(classes):
            rare = classes[np.argmin(total[classes])]
            # What is missing of the class, after this group, relative to what the split wants of it.
            need = {split: left[split][rare] / max(shares[split], 1e-9) for split in left}
        else:
            need = {split: -dealt[split] / max(shares[split], 1e-9) for split in left}
        split = max(need, key=lambda name: (need[name], shares[name]))
        left[split] = left[split] - row
        dealt[split] += 1
        found[names[index]] = split
    return found
