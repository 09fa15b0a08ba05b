"""The sections of params.yaml that set the features, each of its feature's name, and their weights."""

from pathlib import Path
from typing import Any

from ust.features.feature import DESCRIPTION_FILE, Bring, Feature
from ust.features.table import FEATURES
from ust.files.documents import write_json
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


def write_weights(out: Path, name: str, settings: Any, bring: Bring) -> dict[str, str]:
    """Write what makes a feature of any clip: its settings, and its network's weights if it has one.

    Parameters
    ----------
    out : Path
    name : str
        Of the feature.
    settings : Section
        Its section of params.yaml.
    bring : Bring

    Returns
    -------
    dict
        What its weights are: ``weights`` and ``sha256``; nothing of features without a network.
    """
    feature = FEATURES[name]
    provenance = feature.prepare(out, settings, bring) if feature.prepare else {}
    computed = feature.of_settings(settings.model_dump())
    write_json(out / DESCRIPTION_FILE, {"feature": name, **provenance, **computed.model_dump()})
    return provenance
