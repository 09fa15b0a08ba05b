"""A folder with a folder of recordings for each class, as a data set."""

from typing import Any

from pydantic import Field

from ust.collection.collection import AUDIO, CLIPS, IMPLIED, Collection
from ust.collection.formats.folders import classes, read
from ust.collection.formats.form import Options
from ust.collection.importing import add
from ust.collection.names import taxonomy_of
from ust.files.errors import UserError, listing
from ust.files.settings import Rate, Section, Seed
from ust.sources.source import Place, Source, Summary


class Folder(Section):
    """The section ``data.folder`` of params.yaml."""

    seed: Seed
    validate_: Rate = Field(alias="validate")


def needs_path(data: Any) -> None:
    """Check that the section ``data`` names the folder."""
    if not data.path:
        raise ValueError("source 'folder' needs data.path, a folder with a folder for each class")


def bring(place: Place, data: Any) -> Summary:
    """Cut the recordings of ``data.path`` to clips, label them by their folders, deal them to splits."""
    root = place.project(data.path)
    collection = Collection.begin(place.folder, taxonomy_of(classes(root)))
    found = read(root, Options())
    added = add(
        collection, found.said, root, renamed={}, split=None, validate=data.folder.validate_,
        seed=data.folder.seed, progress=place.progress,
    )  # fmt: skip
    problems = [*found.problems, *added.problems, *added.unreadable]
    if problems and data.on_bad_audio == "fail":
        raise UserError(
            f"{root}: {len(problems)} thing(s) cannot be used; to go on without them, set data.on_bad_audio "
            f"to skip:\n{listing(problems, limit=10_000)}"
        )
    clips = collection.clips()
    for name, split in clips["split"].items():
        path = place.folder / AUDIO / split / str(name)
        path.parent.mkdir(exist_ok=True)
        collection.audio(str(name)).rename(path)
    (place.folder / CLIPS).unlink()
    (place.folder / IMPLIED).unlink(missing_ok=True)
    return Summary(
        clips["split"].value_counts().sort_index().to_dict(), {}, tuple(problems), tuple(added.warnings)
    )


SOURCE = Source(bring, settings=Folder, check=needs_path)
