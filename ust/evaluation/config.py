"""The section ``evaluate`` of params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ust.annotations.annotations import SPLITS
from ust.util.config import Name, Section, Seed, read_sections


class Evaluate(Section):
    """Settings of the stage evaluate: split, ground truth and number of bootstrap resamples."""

    split: Literal[SPLITS]
    labels: Name
    bootstrap: Annotated[int, Field(ge=10)]
    seed: Seed


DEFAULTS = Evaluate(split="validate", labels="majority", bootstrap=1000, seed=2019)


def read_evaluate(path: Path) -> Evaluate:
    """Read the section ``evaluate`` of a parameter file; use the defaults if there is no file."""
    return read_sections(path, evaluate=Evaluate)[0] if path.exists() else DEFAULTS
