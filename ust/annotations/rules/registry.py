"""The registry of label aggregation rules: each is in the module of its name."""

from ust.annotations.labels import Rule
from ust.annotations.rules import any as any_rule
from ust.annotations.rules import dawid_skene, fraction, glad, majority, pooled, relabel, verified

RULES: dict[str, Rule] = {
    "majority": majority.RULE,
    "any": any_rule.RULE,
    "fraction": fraction.RULE,
    "dawid_skene": dawid_skene.RULE,
    "glad": glad.RULE,
    "pooled": pooled.RULE,
    "relabel": relabel.RULE,
    "verified": verified.RULE,
}
