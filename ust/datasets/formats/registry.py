"""The registry of label formats; a source has the first format that matches."""

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
    """Return the name of the format of a label source."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    for name, label_format in FORMATS.items():
        if label_format.matches(path):
            return name
    formats = "; ".join(f"{name}: {label_format.description}" for name, label_format in FORMATS.items())
    raise UserError(
        f"{path}: unknown label format; set --format ({formats}), or --unlabelled for recordings without "
        "labels"
    )
