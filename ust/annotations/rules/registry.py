"""The registry of label aggregation rules."""

from ust.annotations.labels import Rule
from ust.annotations.rules import anyone, crowd_kit, fraction, majority, pooled, relabel, verified

RULES: dict[str, Rule] = {
    "majority": majority.RULE,
    "any": anyone.RULE,
    "fraction": fraction.RULE,
    "dawid_skene": crowd_kit.DAWID_SKENE,
    "glad": crowd_kit.GLAD,
    "pooled": pooled.RULE,
    "relabel": relabel.RULE,
    "verified": verified.RULE,
}
