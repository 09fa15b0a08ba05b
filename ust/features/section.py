"""The sections of params.yaml that set the features, each of its feature's name."""

from pathlib import Path

from ust.features.feature import Feature
from ust.features.table import FEATURES
from ust.files.errors import UserError
from ust.files.settings import Section, read_sections


def read_feature(path: Path, name: str) -> tuple[Feature, Section]:
    """A feature and its section of a parameter file.

    Raises
    ------
    UserError
        If there is no such feature, or naming each parameter of its that is wrong.
    """
    if name not in FEATURES:
        raise UserError(f"there is no feature {name!r}; there are {', '.join(FEATURES)}")
    (settings,) = read_sections(path, **{name: FEATURES[name].settings})
    return FEATURES[name], settings
