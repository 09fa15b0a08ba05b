"""The section ``evaluate`` of params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ust.util.config import Name, Section, Seed, read_sections
from ust.util.names import SPLITS


class Evaluate(Section):
    """Settings of the stage evaluate: split, ground truth and number of bootstrap resamples."""

    split: Literal[SPLITS] = "validate"
    """Split to evaluate."""
    labels: Name = "majority"
    """Row of ``labels`` with the labels of train clips, on which decision thresholds are chosen."""
    bootstrap: Annotated[int, Field(ge=10)] = 1000
    """Resamples of the clips for the 95 % intervals."""
    seed: Seed = 2019
    """Seed of the resamples."""


def read_evaluate(path: Path) -> Evaluate:
    """Read the section ``evaluate`` of a parameter file; use the defaults if there is no file."""
    return read_sections(path, evaluate=Evaluate)[0] if path.exists() else Evaluate()
