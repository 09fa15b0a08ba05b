"""The rule ``glad``: each annotator's ability and each clip's difficulty, estimated together."""

from ust.annotations.rules.crowd_kit import IterationConfig, estimate_glad
from ust.annotations.rules.votes import rule_from_estimate

RULE = rule_from_estimate(IterationConfig, estimate_glad)
