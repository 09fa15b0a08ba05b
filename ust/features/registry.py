"""The registries of features and of pretrained networks, and their rows in params.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ust.features import logmel, mn_logmel
from ust.features.efficientat import feature as efficientat
from ust.features.efficientat import weights as efficientat_weights
from ust.features.efficientat import windows
from ust.features.feature import NETWORK_FILE, Feature, FetchFile, Network
from ust.features.onnx import feature as onnx
from ust.features.vggish import feature as vggish
from ust.features.vggish import weights as vggish_weights
from ust.util.config import Section, explain_validation_error, parameter_error, read_sections
from ust.util.documents import read_yaml, write_json
from ust.util.errors import UserError

FEATURES: dict[str, Feature] = {
    "logmel": logmel.FEATURE,
    "mn_logmel": mn_logmel.FEATURE,
    "vggish": vggish.FEATURE,
    "mn": efficientat.FEATURE,
    "mn_windows": windows.FEATURE,
    "onnx": onnx.FEATURE,
}
NETWORKS: dict[str, Network] = {
    "vggish": vggish_weights.NETWORK,
    "efficientat": efficientat_weights.NETWORK,
    "onnx": onnx.NETWORK,
}
TABLES = ("spectrograms", "embeddings")


@dataclass(frozen=True)
class FeatureRow:
    """A row of ``spectrograms`` or ``embeddings``: a feature's name, kind and settings."""

    name: str
    kind: str
    settings: Section

    @property
    def feature(self) -> Feature:
        """The kind's entry in `FEATURES`."""
        return FEATURES[self.kind]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a spectrogram of a clip; embeddings need their network's description."""
        return self.feature.shape(self.feature.config_from(self.settings.model_dump()))


def parse_feature(table: str, name: str, row: Any) -> tuple[FeatureRow | None, list[str]]:
    """Validate a row of ``spectrograms`` or ``embeddings``; return it, or None, and its problems."""
    path = f"{table}.{name}"
    kinds = [kind for kind, feature in FEATURES.items() if feature.is_embedding == (table == "embeddings")]
    if not isinstance(row, Mapping):
        return None, [f"{path}: is {row!r}, should be a mapping of a kind and its parameters"]
    kind = row.get("kind")
    if kind not in kinds:
        return None, [f"{path}.kind: is {kind!r}, should be one of {', '.join(kinds)}"]
    network = FEATURES[kind].network
    if row.get("network") != network:
        return None, [f"{path}.network: is {row.get('network')!r}, should be {network!r}: its kind is {kind}"]
    values = {str(key): value for key, value in row.items() if key not in ("kind", "network")}
    try:
        return FeatureRow(name, kind, FEATURES[kind].settings(**values)), []
    except ValidationError as error:
        return None, explain_validation_error(error, FEATURES[kind].settings, f"{path}.")


def read_feature(path: Path, name: str) -> FeatureRow:
    """Read a row of ``spectrograms`` or ``embeddings`` from a parameter file."""
    content = read_yaml(path)
    tables = {table: content.get(table) for table in TABLES}
    tables = {table: rows if isinstance(rows, dict) else {} for table, rows in tables.items()}
    for table, rows in tables.items():
        if name in rows:
            row, problems = parse_feature(table, name, rows[name])
            if row is None:
                raise parameter_error(path, problems)
            return row
    names = ", ".join(str(row) for rows in tables.values() for row in rows)
    raise UserError(
        f"{path}: there is no feature {name!r}; spectrograms and embeddings have {names or 'none'}"
    )


def read_network(path: Path, name: str) -> Section:
    """Read the section of a pretrained network from a parameter file."""
    if name not in NETWORKS:
        raise UserError(f"there is no pretrained network {name!r}; there are {', '.join(NETWORKS)}")
    (settings,) = read_sections(path, **{name: NETWORKS[name].settings})
    return settings


def write_network(out: Path, name: str, settings: Any, fetch_file: FetchFile) -> dict[str, Any]:
    """Write the weights of a pretrained network and ``network.json``, which describes them."""
    description = {"network": name, **NETWORKS[name].prepare(out, settings, fetch_file)}
    write_json(out / NETWORK_FILE, description)
    return description
