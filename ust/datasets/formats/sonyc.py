"""A folder in the layout of SONYC-UST, v1 or v2."""

from pathlib import Path

from ust.annotations.annotations import GROUND_TRUTH, read_annotations
from ust.annotations.taxonomy import read_taxonomy
from ust.datasets.formats.base import (
    Annotation,
    ImportedLabels,
    ImportOptions,
    LabelFormat,
    MissingRecording,
    RecordingIndex,
    Status,
)
from ust.datasets.source import ANNOTATIONS, TAXONOMY


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read the presence of every label by every annotator, with split and sensor."""
    folder = path if path.is_dir() else path.parent
    taxonomy = read_taxonomy(folder / TAXONOMY)
    annotations = read_annotations(folder / ANNOTATIONS, taxonomy)
    audio = RecordingIndex(options.audio or folder)
    imported, recordings = ImportedLabels(), {}
    for clip in annotations["audio_filename"].unique():
        recordings[clip] = audio.find(clip)
        if isinstance(recordings[clip], MissingRecording):
            imported.problems.append(f"{folder / ANNOTATIONS}: {recordings[clip].reason}")
    for row in annotations.to_dict("records"):
        recording = recordings[row["audio_filename"]]
        if isinstance(recording, Path):
            annotator = "" if row["annotator_id"] == GROUND_TRUTH else f"SONYC {row['annotator_id']}"
            context = (0.0, None, annotator, str(row["sensor_id"]), row["split"])
            imported.annotations += [
                Annotation(recording, label, *context, status=Status(row[label])) for label in taxonomy.labels
            ]
    return imported


FORMAT = LabelFormat(
    "annotations.csv of SONYC-UST",
    lambda path: (path / ANNOTATIONS).is_file() or path.name == ANNOTATIONS,
    read,
)
