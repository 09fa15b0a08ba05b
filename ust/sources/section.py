"""The section ``data`` of params.yaml: which source, and what each is set by."""

from typing import Any, Literal

from pydantic import create_model, model_validator

from ust.files.settings import Section
from ust.sources.table import SOURCES


class _Data(Section):
    source: Literal[tuple(SOURCES)]
    path: str | None
    on_bad_audio: Literal["fail", "skip"]

    @model_validator(mode="after")
    def _has_what_its_source_needs(self) -> "_Data":
        check = SOURCES[self.source].check
        if check is not None:
            check(self)
        return self


_OWN: dict[str, Any] = {name: (row.settings, ...) for name, row in SOURCES.items() if row.settings}
Data = create_model("Data", __base__=_Data, **_OWN)
