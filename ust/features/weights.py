"""What makes a feature of any clip, in a folder: its settings, and its network's weights if it has one."""

from pathlib import Path
from typing import Any

from ust.features.feature import DESCRIPTION_FILE, Bring
from ust.features.table import FEATURES
from ust.files.documents import write_json


def write_weights(out: Path, name: str, settings: Any, bring: Bring) -> dict[str, str]:
    """Write the folder of a feature; the description last.

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
