"""What there is to extract features of: clips and their augmented variants."""

from dataclasses import dataclass
from pathlib import Path

from ust.annotations.reading import SPLITS
from ust.files.errors import UserError

ORIGINAL = "original"


@dataclass(frozen=True, order=True)
class Row:
    """What a feature row is of; rows are sorted by clip, then variant.

    Attributes
    ----------
    clip : str
        The audio_filename of the annotations.
    variant : str
        "original" or the augmentation's name.
    split : str
    path : Path
        The audio file.
    """

    clip: str
    variant: str
    split: str
    path: Path


def find_rows(audio: Path, augmented: Path | None = None) -> list[Row]:
    """All clips of ``audio/<split>/`` and variants of ``augmented/<variant>/<split>/``, sorted.

    Raises
    ------
    UserError
        If there is no audio.
    """
    rows = [
        Row(path.name, ORIGINAL, split, path)
        for split in SPLITS
        for path in audio.glob(f"{split}/*")
        if not path.is_dir()
    ]
    if not rows:
        raise UserError(f"{audio}: no audio files in folders of splits; the stage download makes them")
    if augmented is not None and augmented.is_dir():
        for path in augmented.glob("*/*/*.flac"):
            rows.append(Row(path.stem, path.parts[-3], path.parent.name, path))
    return sorted(rows)
