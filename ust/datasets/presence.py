"""What one annotator's labels say of each class in a clip, and how those of several sources add up.

An answer maps labels to one of these, in order of precedence:

| | value in annotations.csv | |
| --- | --- | --- |
| `PRESENT` | 1 | a label names the class |
| `ABSENT` | 0 | the class is explicitly said to be absent |
| `IN_DOUBT` | -1 | a line that may concern the class here could not be placed; or a reviewer is unsure |
| `NOT_NAMED` | 0 | the recording was labelled for the class, and no label names it here |
| `UNKNOWN` | -1 | not asked; the same as no entry |

Answers combine label by label to the one of higher precedence, so that the order of imports does not matter.
"""

from collections.abc import Mapping

from ust.annotations.taxonomy import Taxonomy
from ust.datasets.formats.base import ABSENT, IN_DOUBT, PRESENT, UNKNOWN

NOT_NAMED = -3
PRECEDENCE = (UNKNOWN, NOT_NAMED, IN_DOUBT, ABSENT, PRESENT)
STATUS_VALUES = {PRESENT: 1, ABSENT: 0, IN_DOUBT: -1, NOT_NAMED: 0, UNKNOWN: -1}
Statuses = dict[str, int]


def combine_statuses(first: Mapping[str, int], second: Mapping[str, int]) -> Statuses:
    """Return the answer that two sources together give.

    Examples
    --------
    >>> combine({"1_tram": HEARD, "2_bell": NOT_NAMED}, {"1_tram": NOT_NAMED, "2_bell": HEARD})
    {'1_tram': 1, '2_bell': 1}
    """
    found = dict(first)
    for label, answer in second.items():
        found[label] = max(found.get(label, UNKNOWN), answer, key=PRECEDENCE.index)
    return found


def contradictions(first: Mapping[str, int], second: Mapping[str, int]) -> list[str]:
    """Return the labels that one source names and the other explicitly excludes."""
    return [label for label in first if {first[label], second.get(label)} == {PRESENT, ABSENT}]


def presence_values(answer: Mapping[str, int], taxonomy: Taxonomy) -> dict[str, int]:
    """Return presence by label as in annotations.csv: 1, 0 or -1 for "not asked".

    A fine label that is present makes its coarse one present. A fine label that is only not named is open
    (-1) where its coarse one is in doubt, or present without any fine label; a coarse one that is only not
    named is open where one of its fine labels is in doubt.
    """
    status = {label: answer.get(label, UNKNOWN) for label in taxonomy.labels}
    found = {label: STATUS_VALUES[status[label]] for label in taxonomy.labels}
    for group, coarse in enumerate(taxonomy.coarse):
        members = [taxonomy.fine[index] for index in taxonomy.members(group)]
        heard = any(status[member] == PRESENT for member in members)
        if status[coarse] == IN_DOUBT or (status[coarse] == PRESENT and not heard):
            found |= {member: -1 for member in members if status[member] == NOT_NAMED}
        if status[coarse] == NOT_NAMED and any(status[member] == IN_DOUBT for member in members):
            found[coarse] = -1
        if heard:
            found[coarse] = 1
    return found
