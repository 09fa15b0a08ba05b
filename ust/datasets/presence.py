"""Presence of each class in a clip, by one annotator, combined from several label sources.

Each label of the taxonomy has one of these values of `Status`, in order of precedence:

| status | value in annotations.csv | meaning |
| --- | --- | --- |
| `PRESENT` | 1 | an annotation names the class |
| `ABSENT` | 0 | the class is explicitly marked as absent |
| `UNCERTAIN` | -1 | an unreadable annotation may be of this class and clip, or a reviewer is unsure |
| `INFERRED_ABSENT` | 0 | the recording was labelled for the class, and no annotation names it in this clip |
| `NOT_ASKED` | -1 | not asked; equivalent to a missing entry |

Two sources combine, label by label, to the status of higher precedence. The order of imports therefore does
not matter.
"""

from collections.abc import Mapping

from ust.annotations.taxonomy import Taxonomy
from ust.datasets.formats.base import Status

PRECEDENCE = (Status.NOT_ASKED, Status.INFERRED_ABSENT, Status.UNCERTAIN, Status.ABSENT, Status.PRESENT)
STATUS_VALUES = {
    Status.PRESENT: 1,
    Status.ABSENT: 0,
    Status.UNCERTAIN: -1,
    Status.INFERRED_ABSENT: 0,
    Status.NOT_ASKED: -1,
}
Statuses = dict[str, Status]  # by label


def combine_statuses(first: Mapping[str, Status], second: Mapping[str, Status]) -> Statuses:
    """Combine the statuses from two sources.

    Examples
    --------
    >>> combine_statuses({"1_tram": Status.PRESENT}, {"1_tram": Status.INFERRED_ABSENT})
    {'1_tram': <Status.PRESENT: 1>}
    """
    combined = dict(first)
    for label, status in second.items():
        combined[label] = max(combined.get(label, Status.NOT_ASKED), status, key=PRECEDENCE.index)
    return combined


def find_contradictions(first: Mapping[str, Status], second: Mapping[str, Status]) -> list[str]:
    """Return the labels that are `PRESENT` in one source and `ABSENT` in the other."""
    return [label for label in first if {first[label], second.get(label)} == {Status.PRESENT, Status.ABSENT}]


def convert_to_presence(statuses: Mapping[str, Status], taxonomy: Taxonomy) -> dict[str, int]:
    """Convert statuses to the values of annotations.csv: 1, 0, or -1 for "not asked".

    Three rules keep the levels consistent:

    - A coarse label is 1 if one of its fine labels is present.
    - A fine label that is not named is -1 if its coarse label is in doubt, or is present without any fine
      label.
    - A coarse label that is not named is -1 if one of its fine labels is in doubt.
    """
    status = {label: statuses.get(label, Status.NOT_ASKED) for label in taxonomy.labels}
    values = {label: STATUS_VALUES[status[label]] for label in taxonomy.labels}
    for group, coarse in enumerate(taxonomy.coarse):
        members = taxonomy.fine_labels(group)
        fine_present = any(status[member] == Status.PRESENT for member in members)
        if status[coarse] == Status.UNCERTAIN or (status[coarse] == Status.PRESENT and not fine_present):
            values |= {member: -1 for member in members if status[member] == Status.INFERRED_ABSENT}
        fine_uncertain = any(status[member] == Status.UNCERTAIN for member in members)
        if status[coarse] == Status.INFERRED_ABSENT and fine_uncertain:
            values[coarse] = -1
        if fine_present:
            values[coarse] = 1
    return values
