"""Challenge submissions: predictions and metadata in the official layout, and a check of both."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ust.annotations.taxonomy import Taxonomy
from ust.evaluation.metrics import HEADLINES
from ust.evaluation.predictions import read_predictions
from ust.util.config import Name, Section
from ust.util.documents import read_yaml
from ust.util.errors import UserError, bullet_list
from ust.util.folders import MANIFEST
from ust.util.tables import read_csv


class Author(Section):
    """An author of a submission."""

    lastname: str
    firstname: str
    email: str
    affiliation: str


class Submit(Section):
    """Settings of the stage submit, the content of the metadata file."""

    label: Name
    """Last name of the corresponding author, institute, task and number, joined by underscores."""
    name: str
    """Name of the system."""
    authors: Annotated[list[Author], Field(min_length=1)]
    """The authors, each with lastname, firstname, email and affiliation; the corresponding one first."""


def submission_metadata(
    label: str, name: str, system: str, authors: list[dict[str, str]], metrics: dict[str, Any]
) -> dict[str, Any]:
    """Build the metadata of a submission in the layout of the DCASE challenges of 2019 and 2020.

    Task 5 of 2020 ranks systems that use time and place; ``spatiotemporal_context`` lists what a system uses.
    """
    provenance = metrics["provenance"]
    context = {key: provenance[key] for key in ("spatiotemporal_context",) if key in provenance}
    return {
        "submission": {"label": label, "name": name, "authors": authors},
        "system": {
            "description": {
                "system": system,
                "machine_learning_method": provenance.get("architecture"),
                "vggish_weights": provenance.get("vggish_weights"),
                **context,
            },
            "complexity": {"total_parameters": provenance.get("parameters")},
        },
        "results": {
            "data_source": provenance.get("data_source"),
            "split": provenance["split"],
            "clips": provenance["clips"],
            **{
                level: {name: metrics[level][name] for name in (*HEADLINES, "class_auprc")}
                for level in ("fine", "coarse")
                if level in metrics
            },
        },
    }


def check_submission(folder: Path, label: str, clips: list[str], taxonomy: Taxonomy) -> None:
    """Check a submission folder: its files, the columns and their order, the clips and the range of values.

    Parameters
    ----------
    label : str
        Label of the submission, with which its file names begin.
    clips : list of str
        Clips of the split.

    Raises
    ------
    UserError
        Naming the file and the problem.
    """
    output, description = f"{label}.output.csv", f"{label}.meta.yaml"
    files = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    if files != sorted([output, description]):
        raise UserError(f"{folder}: holds {', '.join(files)}, should hold {output} and {description}")
    header = list(read_csv(folder / output, nrows=0, dtype=str).columns)
    expected = ["audio_filename", *taxonomy.fine, *taxonomy.coarse]
    if header != expected:
        problems = [f"column {name} is missing" for name in expected if name not in header]
        problems += [f"column {name} is not one of the taxonomy's" for name in header if name not in expected]
        problems = problems or ["the columns are in another order than fine, then coarse, as in the taxonomy"]
        raise UserError(f"{folder / output}: not in the official layout:\n{bullet_list(problems)}")
    read_predictions(folder / output, clips, taxonomy)
    found = read_yaml(folder / description).get("submission", {}).get("label")
    if found != label:
        raise UserError(f"{folder / description}: the label is {found!r}, should be {label!r}")
