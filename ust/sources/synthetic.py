"""A small city, synthesised on the spot from a seed."""

from typing import Any

from pydantic import Field

from ust.files.settings import Count, Section, Seed
from ust.sources.city.build import build_city
from ust.sources.source import Place, Source, Summary


class Synthetic(Section):
    """The section ``data.synthetic`` of params.yaml."""

    seed: Seed
    train: Count
    validate_: Count = Field(alias="validate")


def bring(place: Place, data: Any) -> Summary:
    """Synthesise the city that ``data.synthetic`` asks for."""
    clips = {"train": data.synthetic.train, "validate": data.synthetic.validate_}
    build_city(place.folder, seed=data.synthetic.seed, clips=clips, progress=place.progress)
    return Summary(clips, {}, ())


SOURCE = Source(bring, settings=Synthetic)
