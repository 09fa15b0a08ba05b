"""The forms of labels; a source is of the first that it matches."""

from pathlib import Path

from ust.datasets.formats import audacity, class_folders, label_studio, raven, sonyc, tables
from ust.datasets.formats.base import LabelFormat
from ust.util.errors import UserError

FORMATS: dict[str, LabelFormat] = {
    "sonyc": sonyc.FORMAT,
    "esc50": tables.ESC50,
    "urbansound8k": tables.URBANSOUND8K,
    "label-studio": label_studio.FORMAT,
    "raven": raven.FORMAT,
    "audacity": audacity.FORMAT,
    "csv": tables.FORMAT,
    "folder": class_folders.FORMAT,
}


def detect_format(path: Path) -> str:
    """The form of a source.

    Raises
    ------
    UserError
        If there is nothing, or it is of none.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    for name, form in FORMATS.items():
        if form.matches(path):
            return name
    forms = "; ".join(f"{name}: {form.description}" for name, form in FORMATS.items())
    raise UserError(f"{path}: in no form that is known; say --format ({forms})")
