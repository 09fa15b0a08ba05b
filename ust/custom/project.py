"""The project folder of a custom tagger: its files and settings."""

import json
import re
from pathlib import Path
from typing import Any, Literal

from ust.annotations.audioset import map_labels_to_classes
from ust.datasets.collection import Collection
from ust.util.config import NonNegativeInt, PositiveInt, Section, read_sections
from ust.util.documents import render_template
from ust.util.errors import UserError
from ust.util.files import write_text

SYSTEM = "own"
PARAMS, PIPELINE = "params.yaml", "dvc.yaml"
FEATURES, MODELS, PACKED, PREDICTIONS = "features", "models", "model", "predictions.csv"
CURVE, REPORT = "learning_curve.csv", "report.html"
METRICS, DETAILS = "metrics.json", "details.json"  # headline metrics, and all
GITIGNORE = "/audio\n/report.html\n"


class ReportSettings(Section):
    """The section ``own`` of the project's params.yaml: settings of the report."""

    curve_seeds: NonNegativeInt
    bootstrap: PositiveInt
    mistakes: NonNegativeInt


class ComputeSettings(Section):
    """The section ``compute`` of the project's params.yaml."""

    threads: PositiveInt
    device: Literal["auto", "cpu", "cuda"]


def create_project(
    folder: Path, taxonomy: dict[str, Any], *, weights: str = "mn04_as", checkpoint: str | None = None
) -> tuple[Collection, dict[str, list[str]]]:
    """Create a project: the taxonomy, params.yaml, dvc.yaml and .gitignore.

    The section ``audioset`` of params.yaml has the AudioSet classes that match the name of each label. They
    tag the collection until the project is trained.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not empty; name another folder")
    templates = Path(__file__).parent
    collection = Collection.create(folder, taxonomy)
    classes = map_labels_to_classes(collection.taxonomy)
    content = {
        "weights": weights,
        "checkpoint": "null" if checkpoint is None else checkpoint,
        "classes": {
            _scalar(label): f"[{', '.join(map(_scalar, names))}]" for label, names in classes.items()
        },
    }
    for name in (PARAMS, PIPELINE):
        write_text(folder / name, render_template(templates / f"{name}.jinja", **content))
    write_text(folder / ".gitignore", GITIGNORE)
    return collection, classes


def _scalar(name: str) -> str:
    """Return a name as YAML, in quotes where it needs them."""
    return name if re.fullmatch(r"\w[\w -]*(\([\w -]+\))?", name) else json.dumps(name, ensure_ascii=False)


def read_settings(folder: Path) -> tuple[ReportSettings, ComputeSettings]:
    """Read the sections ``own`` and ``compute`` of params.yaml."""
    report, compute = read_sections(folder / PARAMS, own=ReportSettings, compute=ComputeSettings)
    return report, compute
