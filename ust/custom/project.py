"""The folder of somebody's own tagger: a collection, its settings, and what is made of them."""

from pathlib import Path
from typing import Any, Literal

from ust.datasets.collection import Collection
from ust.util.config import Count, Section, Whole, read_sections
from ust.util.documents import render_template
from ust.util.errors import UserError
from ust.util.files import atomic_write

SYSTEM = "own"
PARAMS, PIPELINE = "params.yaml", "dvc.yaml"
FEATURES, MODELS, PACKED, PREDICTIONS = "features", "models", "model", "predictions.csv"
CURVE, REPORT, METRICS = "learning_curve.csv", "report.html", "metrics.json"


class Own(Section):
    """The section ``own`` of the folder's params.yaml."""

    curve_seeds: Whole
    bootstrap: Count
    mistakes: Whole


class OwnCompute(Section):
    """The section ``compute`` of the folder's params.yaml."""

    threads: Count
    device: Literal["auto", "cpu", "cuda"]


def create_project(
    folder: Path, taxonomy: dict[str, Any], *, weights: str = "mn04_as", checkpoint: str | None = None
) -> Collection:
    """Make a folder: the taxonomy, params.yaml and dvc.yaml.

    Parameters
    ----------
    folder : Path
        New or empty.
    taxonomy : dict
        In the layout of its file.
    weights : str
        Of the section ``mn``.
    checkpoint : str, optional
        Their file, relative to the folder.

    Raises
    ------
    UserError
        If there is something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there already, and not empty; name another folder")
    here = Path(__file__).parent
    content = {"weights": weights, "checkpoint": "null" if checkpoint is None else checkpoint}
    for name in (PARAMS, PIPELINE):
        with atomic_write(folder / name) as partial:
            partial.write_text(render_template(here / f"{name}.jinja", **content), "utf-8")
    return Collection.create(folder, taxonomy)


def read_settings(folder: Path) -> tuple[Own, OwnCompute]:
    """The sections ``own`` and ``compute``.

    Raises
    ------
    UserError
        Naming each parameter that is wrong.
    """
    own, compute = read_sections(folder / PARAMS, own=Own, compute=OwnCompute)
    return own, compute
