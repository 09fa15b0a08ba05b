"""The data source ``folder``: a folder with a subfolder of recordings for each class."""

from typing import Any

from pydantic import Field

from ust.datasets.collection import CLIPS, IMPLIED, Collection
from ust.datasets.formats.base import ImportOptions
from ust.datasets.formats.class_folders import read
from ust.datasets.importing import import_recordings, taxonomy_from_classes
from ust.datasets.source import AUDIO, FetchContext, Source, Summary
from ust.util.config import FractionBelowOne, Section, Seed
from ust.util.errors import UserError, bullet_list


class FolderConfig(Section):
    """The section ``data.folder`` of params.yaml."""

    seed: Seed = 2019
    """Seed of the split."""
    validate_: FractionBelowOne = Field(0.2, alias="validate")
    """Share of the clips in the split validate."""


def fetch(context: FetchContext, data: Any) -> Summary:
    """Cut the recordings of ``data.path`` into clips, label them by their folders, and split them."""
    root = context.resolve_path(data.path)
    labels = read(root, ImportOptions())
    classes = dict.fromkeys(annotation.label for annotation in labels.annotations)
    collection = Collection.create(context.folder, taxonomy_from_classes(classes))
    result = import_recordings(
        collection, labels.annotations, root, renamed={}, split=None, validate=data.folder.validate_,
        seed=data.folder.seed, progress=context.progress,
    )  # fmt: skip
    problems = [*labels.problems, *result.problems, *result.unreadable]
    if problems and data.on_bad_audio == "fail":
        raise UserError(
            f"{root}: {len(problems)} item(s) cannot be used; to go on without them, set data.on_bad_audio "
            f"to skip:\n{bullet_list(problems, limit=10_000)}"
        )
    clips = collection.clips()
    if clips.empty:
        raise UserError(f"{root}: no recording can be used:\n{bullet_list(problems)}")
    for name, split in clips["split"].items():
        path = context.folder / AUDIO / split / str(name)
        path.parent.mkdir(exist_ok=True)
        collection.clip_path(str(name)).rename(path)
    (context.folder / CLIPS).unlink()
    (context.folder / IMPLIED).unlink(missing_ok=True)
    return Summary(
        clips["split"].value_counts().sort_index().to_dict(), {}, tuple(problems), tuple(result.warnings)
    )


SOURCE = Source(fetch, settings=FolderConfig)
