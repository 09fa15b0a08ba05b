"""The features by name."""

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
    """Return a feature and its section of a parameter file.

    Raises
    ------
    UserError
        If there is no such feature, or a parameter of its section is wrong.
    """
    if name not in FEATURES:
        raise UserError(f"there is no feature {name!r}; there are {', '.join(FEATURES)}")
    (settings,) = read_sections(path, **{name: FEATURES[name].settings})
    return FEATURES[name], settings


def write_weights(out: Path, name: str, settings: Any, fetch_file: FetchFile) -> dict[str, str]:
    """Write everything needed to compute a feature: its settings and, if it has a network, the weights.

    Parameters
    ----------
    out : Path
        Folder to write to.
    name : str
        Name of the feature.
    settings : Section
        Its section of params.yaml.
    fetch_file : FetchFile

    Returns
    -------
    dict
        ``weights`` and ``sha256``; empty for a feature without a network.
    """
    feature = FEATURES[name]
    provenance = feature.prepare(out, settings, fetch_file) if feature.prepare else {}
    extraction_config = feature.config_from(settings.model_dump())
    write_json(out / FEATURE_FILE, {"feature": name, **provenance, **extraction_config.model_dump()})
    return provenance
