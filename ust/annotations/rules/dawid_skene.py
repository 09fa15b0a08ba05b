"""The rule ``dawid_skene``: each annotator's confusion matrix, estimated by expectation-maximisation."""

from ust.annotations.rules.crowd_kit import IterationConfig, estimate_dawid_skene
from ust.annotations.rules.votes import rule_from_estimate

RULE = rule_from_estimate(IterationConfig, estimate_dawid_skene)
