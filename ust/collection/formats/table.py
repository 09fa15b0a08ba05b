"""The forms of labels; a source is of the first that it matches."""

from pathlib import Path

from ust.collection.formats import audacity, folders, label_studio, raven, sonyc, tables
from ust.collection.formats.form import Form
from ust.files.errors import UserError

FORMS: dict[str, Form] = {
    "sonyc": sonyc.FORM,
    "esc50": tables.ESC50,
    "urbansound8k": tables.URBANSOUND8K,
    "label-studio": label_studio.FORM,
    "raven": raven.FORM,
    "audacity": audacity.FORM,
    "csv": tables.FORM,
    "folder": folders.FORM,
}


def form_of(path: Path) -> str:
    """The form of a source.

    Raises
    ------
    UserError
        If there is nothing, or it is of none.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    for name, form in FORMS.items():
        if form.matches(path):
            return name
    forms = "; ".join(f"{name}: {form.words}" for name, form in FORMS.items())
    raise UserError(f"{path}: in no form that is known; say --format ({forms})")
