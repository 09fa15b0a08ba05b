"""The section ``evaluate`` of params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ust.annotations.annotations import SPLITS
from ust.util.config import Name, Section, Seed, read_sections


class Evaluate(Section):
    """What is scored, against what, and how sure the figures are."""

    split: Literal[SPLITS]
    labels: Name
    bootstrap: Annotated[int, Field(ge=10)]
    seed: Seed


WITHOUT = Evaluate(split="validate", labels="majority", bootstrap=1000, seed=2019)


def read_evaluate(path: Path) -> Evaluate:
    """The section of a parameter file; where there is no such file, what the project comes with."""
    return read_sections(path, evaluate=Evaluate)[0] if path.exists() else WITHOUT
