"""Recordings and label sources for the tests of imports."""

import json

import numpy as np
import pandas as pd
import soundfile as sf

from ust.datasets.formats.base import ImportOptions
from ust.datasets.formats.registry import FORMATS, detect_format

RATE = 4000


def write_noise(path, seconds=1.0):
    """Write a recording of noise that depends on its path; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path).encode()))
    sf.write(path, 0.1 * rng.standard_normal(int(seconds * RATE)), RATE)
    return path


def read_labels(path, form=None, **options):
    """Read a label source in its own format, or in the format of a name."""
    return FORMATS[form or detect_format(path)].read(path, ImportOptions(**options))


def write_annotations(path, taxonomy, rows):
    """Write an annotation file of rows of split, clip, annotator and presence by label; others are 0."""
    keys = ("split", "audio_filename", "annotator_id")
    columns = [f"{label}_presence" for label in taxonomy.labels]
    table = [
        dict(zip(keys, row, strict=True))
        | {"sensor_id": "7"}
        | dict.fromkeys(columns, 0)
        | {f"{label}_presence": value for label, value in presence.items()}
        for *row, presence in rows
    ]
    pd.DataFrame(table).to_csv(path, index=False)


def label_studio_export(path, *tasks):
    """Write tasks as Label Studio does; return the path."""
    path.write_text(json.dumps(tasks))
    return path
