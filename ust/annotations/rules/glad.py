"""GLAD, a model of volunteers and of how hard clips are, one label at a time."""

from ust.annotations.rules.crowd_kit import IterativeRule, glad
from ust.annotations.rules.votes import rule_from_estimate

RULE = rule_from_estimate(IterativeRule, glad)
