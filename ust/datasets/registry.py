"""The registry of data sources, and the section ``data`` of params.yaml."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, create_model, model_validator

from ust.annotations.annotations import FROM_FINE, CoarseMode
from ust.datasets import class_folders, local, sonyc
from ust.datasets.source import Source
from ust.datasets.synthetic import city
from ust.util.config import Section
from ust.util.documents import read_yaml
from ust.util.names import SPLITS

SOURCES: dict[str, Source] = {
    "synthetic": city.SOURCE,
    "local": local.SOURCE,
    "folder": class_folders.SOURCE,
    "sonyc-ust-v1": sonyc.V1,
    "sonyc-ust-v2": sonyc.V2,
}

# YAML reads a version such as 0.1 as a number.
Version = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, float) else value)]


class _Data(Section):
    """The section ``data`` without the settings of single sources."""

    source: Literal[tuple(SOURCES)] = "synthetic"
    """Where the clips come from."""
    path: str = "data/local"
    """Folder that the sources ``local`` and ``folder`` read, relative to the project."""
    release: Version | None = None
    """Release of a SONYC-UST data set; null for the latest."""
    coarse: CoarseMode = FROM_FINE
    """``from_fine``: coarse labels are the maximum of their fine labels; ``as_given``: as published."""
    on_bad_audio: Literal["fail", "skip"] = "fail"
    """Whether unusable recordings stop the stage or are left out."""

    @model_validator(mode="after")
    def _check_source(self) -> "_Data":
        """Check the release, and the parameters of the source."""
        source = SOURCES[self.source]
        if self.release is not None and source.latest is None:
            others = ", ".join(name for name, other in SOURCES.items() if other.latest)
            raise ValueError(
                f"data.release is {self.release!r}, but source {self.source!r} has no releases; "
                f"set it to null, or data.source to {others.replace(', ', ' or ')}"
            )
        if source.check is not None:
            source.check(self)
        return self

    @property
    def version(self) -> str | None:
        """The release to download; None if the source has no releases."""
        return self.release or SOURCES[self.source].latest


_SOURCE_SETTINGS: dict[str, Any] = {
    name: (row.settings, ...) for name, row in SOURCES.items() if row.settings
}
Data = create_model("Data", __base__=_Data, **_SOURCE_SETTINGS)


def read_scored_splits(params: Path) -> tuple[str, ...]:
    """Return the splits to evaluate: validate, and those of ``predict`` and ``evaluate``."""
    content = read_yaml(params)
    sections = [content.get(name) for name in ("predict", "evaluate")]
    named = {section.get("split") for section in sections if isinstance(section, dict)}
    return tuple(split for split in SPLITS if split == "validate" or split in named)
