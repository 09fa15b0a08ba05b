"""How a machine, or several, are used: apart from all that imports PyTorch, for whoever only reads it."""

from typing import Annotated, Literal

from pydantic import Field

from ust.files.settings import Count, Section


class Compute(Section):
    """The section ``compute`` of params.yaml."""

    threads: Count
    device: Literal["auto", "cpu", "cuda"]
    processes: Count
    synchronise: bool
    scheduler: Annotated[str, Field(pattern=r"^(local:[1-9][0-9]*|slurm|[a-z]+://.+)$")] | None
    shard_clips: Count
