"""Dawid & Skene's model of volunteers, one label at a time."""

from ust.annotations.rules.crowd_kit import IterativeRule, dawid_skene
from ust.annotations.rules.votes import rule_from_estimate

RULE = rule_from_estimate(IterativeRule, dawid_skene)
