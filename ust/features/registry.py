"""The features: what a clip becomes before a network takes it."""

from pathlib import Path
from typing import Any

from ust.features import logmel, onnx
from ust.features.efficientat import feature as mn
from ust.features.efficientat import front_end, windows
from ust.features.feature import FEATURE_FILE, Feature, FetchFile
from ust.features.vggish import feature as vggish
from ust.util.config import Section, read_sections
from ust.util.documents import write_json
from ust.util.errors import UserError

FEATURES: dict[str, Feature] = {
    "logmel": logmel.FEATURE,
    "logmel64": logmel.FEATURE,
    "vggish": vggish.FEATURE,
    "mn": mn.FEATURE,
    "mn_frames": mn.FEATURE,
    "mn_windows": windows.FEATURE,
    "mn_logmel": front_end.FEATURE,
    "onnx": onnx.FEATURE,
}


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


def write_weights(out: Path, name: str, settings: Any, bring: FetchFile) -> dict[str, str]:
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
    write_json(out / FEATURE_FILE, {"feature": name, **provenance, **computed.model_dump()})
    return provenance
