"""Presence of each class in a clip, by one annotator, combined from several label sources.

Each label of the taxonomy has one of these statuses, in order of precedence:

| status | value in annotations.csv | meaning |
| --- | --- | --- |
| `PRESENT` | 1 | an annotation names the class |
| `ABSENT` | 0 | the class is explicitly marked as absent |
| `IN_DOUBT` | -1 | an unreadable annotation may be of this class and clip, or a reviewer is unsure |
| `NOT_NAMED` | 0 | the recording was labelled for the class, and no annotation names it in this clip |
| `UNKNOWN` | -1 | not asked; equivalent to a missing entry |

Two sources combine, label by label, to the status of higher precedence. The order of imports therefore does
not matter.
"""

from collections.abc import Mapping

from ust.annotations.taxonomy import Taxonomy
from ust.datasets.formats.base import ABSENT, IN_DOUBT, PRESENT, UNKNOWN

NOT_NAMED = -3
PRECEDENCE = (UNKNOWN, NOT_NAMED, IN_DOUBT, ABSENT, PRESENT)
STATUS_VALUES = {PRESENT: 1, ABSENT: 0, IN_DOUBT: -1, NOT_NAMED: 0, UNKNOWN: -1}
Statuses = dict[str, int]  # by label


def combine_statuses(first: Mapping[str, int], second: Mapping[str, int]) -> Statuses:
    """Combine the statuses from two sources.

    Examples
    --------
    >>> combine_statuses({"1_tram": PRESENT, "2_bell": NOT_NAMED}, {"1_tram": NOT_NAMED, "2_bell": PRESENT})
    {'1_tram': 1, '2_bell': 1}
    """
    combined = dict(first)
    for label, status in second.items():
        combined[label] = max(combined.get(label, UNKNOWN), status, key=PRECEDENCE.index)
    return combined


def find_contradictions(first: Mapping[str, int], second: Mapping[str, int]) -> list[str]:
    """Return the labels that are `PRESENT` in one source and `ABSENT` in the other."""
    return [label for label in first if {first[label], second.get(label)} == {PRESENT, ABSENT}]


def presence_values(statuses: Mapping[str, int], taxonomy: Taxonomy) -> dict[str, int]:
    """Convert statuses to the values of annotations.csv: 1, 0, or -1 for "not asked".

    Three rules keep the levels consistent:

    - A coarse label is 1 if one of its fine labels is present.
    - A fine label that is not named is -1 if its coarse label is in doubt, or is present without any fine
      label.
    - A coarse label that is not named is -1 if one of its fine labels is in doubt.
    """
    status = {label: statuses.get(label, UNKNOWN) for label in taxonomy.labels}
    values = {label: STATUS_VALUES[status[label]] for label in taxonomy.labels}
    for group, coarse in enumerate(taxonomy.coarse):
        members = taxonomy.fine_labels(group)
        fine_present = any(status[member] == PRESENT for member in members)
        if status[coarse] == IN_DOUBT or (status[coarse] == PRESENT and not fine_present):
            values |= {member: -1 for member in members if status[member] == NOT_NAMED}
        if status[coarse] == NOT_NAMED and any(status[member] == IN_DOUBT for member in members):
            values[coarse] = -1
        if fine_present:
            values[coarse] = 1
    return values
