"""The rules of label aggregation: from what annotators said of a clip to one label vector."""

from ust.annotations import anyone, majority
from ust.annotations.labels import Rule

RULES: dict[str, Rule] = {
    "majority": majority.RULE,
    "any": anyone.RULE,
}
