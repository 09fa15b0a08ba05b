"""Urban sound tagging: from the audio of street sensors to the tags of SONYC-UST.

The names below are what most people need; they are imported when they are first asked for.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Tagger": "ust.tagging.tagger",
    "UserError": "ust.util.errors",
    "evaluate": "ust.evaluation.evaluation",
    "load_audio": "ust.audio.recordings",
    "read_annotations": "ust.annotations.annotations",
    "read_predictions": "ust.evaluation.predictions",
    "read_taxonomy": "ust.annotations.taxonomy",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ust' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
