"""A folder in the layout of SONYC-UST, v1 or v2."""

from pathlib import Path

from ust.annotations.annotations import GROUND_TRUTH, read_annotations
from ust.annotations.taxonomy import read_taxonomy
from ust.datasets.collection import ANNOTATIONS, TAXONOMY
from ust.datasets.formats.base import (
    Annotation,
    ImportedLabels,
    ImportOptions,
    LabelFormat,
    MissingRecording,
    RecordingIndex,
)


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Each answer of each annotator, in the split and of the sensor that the file says."""
    folder = path if path.is_dir() else path.parent
    taxonomy = read_taxonomy(folder / TAXONOMY)
    annotations = read_annotations(folder / ANNOTATIONS, taxonomy)
    audio = RecordingIndex(options.audio or folder)
    found, places = ImportedLabels(), {}
    for clip in annotations["audio_filename"].unique():
        places[clip] = audio.find(clip)
        if isinstance(places[clip], MissingRecording):
            found.problems.append(f"{folder / ANNOTATIONS}: {places[clip].reason}")
    for row in annotations.to_dict("records"):
        place = places[row["audio_filename"]]
        if isinstance(place, Path):
            who = "" if row["annotator_id"] == GROUND_TRUTH else f"SONYC {row['annotator_id']}"
            context = (0.0, None, who, str(row["sensor_id"]), row["split"])
            found.annotations += [
                Annotation(place, label, *context, status=int(row[label])) for label in taxonomy.labels
            ]
    return found


FORMAT = LabelFormat(
    "annotations.csv as SONYC-UST has it",
    lambda path: (path / ANNOTATIONS).is_file() or path.name == ANNOTATIONS,
    read,
)
