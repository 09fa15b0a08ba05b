"""A folder of somebody's own clips, in the layout of SONYC-UST, with what is known of each.

``dcase-ust-taxonomy.yaml`` has the classes, ``audio/`` the clips, ``clips.csv`` where each comes from,
``annotations.csv`` who heard what, and ``annotators.csv`` who has which number there.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ust.annotations.reading import AS_GIVEN, GROUND_TRUTH, KEYS, read_annotations
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
from ust.files.atomic import exclusive, replacing
from ust.files.csvs import read_csv
from ust.files.documents import write_yaml
from ust.files.errors import UserError

TAXONOMY, ANNOTATIONS = "dcase-ust-taxonomy.yaml", "annotations.csv"
CLIPS, ANNOTATORS, AUDIO = "clips.csv", "annotators.csv", "audio"
CLIP_COLUMNS = ("audio_filename", "split", "sensor_id", "recording", "source", "start", "end", "gain_db")
LONGEST_NAME = 80


class Collection:
    """The folder, and what is in it now.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    taxonomy : Taxonomy

    Raises
    ------
    UserError
        If it is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / TAXONOMY).is_file():
            raise UserError(f"{folder}: has no {TAXONOMY}; ust init {folder} makes it")
        self.folder = folder
        self.taxonomy: Taxonomy = read_taxonomy(folder / TAXONOMY)

    @classmethod
    def begin(cls, folder: Path, taxonomy: Mapping[str, object]) -> "Collection":
        """A new one, of a taxonomy in its file's layout."""
        with replacing(folder / TAXONOMY) as partial:
            write_yaml(partial, dict(taxonomy))
        return cls(folder)

    @property
    def columns(self) -> list[str]:
        """Of the annotations."""
        return [*KEYS, *(f"{label}_presence" for label in self.taxonomy.labels)]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from writing."""
        with exclusive(self.folder):
            yield

    def clips(self) -> pd.DataFrame:
        """`CLIP_COLUMNS`, by ``audio_filename``; start and end in seconds of the recording.

        ``gain_db`` is what the samples were multiplied by when stored, so that no peak is clipped; 0 mostly.

        Raises
        ------
        UserError
            If the file is damaged.
        """
        path = self.folder / CLIPS
        if not path.exists():
            return pd.DataFrame(columns=list(CLIP_COLUMNS)).set_index("audio_filename")
        types = dict.fromkeys(CLIP_COLUMNS[:5], str)
        table = read_csv(path, dtype=types, keep_default_na=False)
        if list(table.columns) == list(CLIP_COLUMNS[:-1]):  # made before gains were noted
            table["gain_db"] = 0.0
        if list(table.columns) != list(CLIP_COLUMNS):
            raise UserError(f"{path}: the columns should be {', '.join(CLIP_COLUMNS)}")
        return table.set_index("audio_filename")

    def annotations(self) -> pd.DataFrame:
        """As `ust.annotations.reading.read_annotations` gives them.

        Raises
        ------
        UserError
            If there are none, or they are wrong.
        """
        path = self.folder / ANNOTATIONS
        if not path.exists():
            raise UserError(f"{self.folder}: nothing is labelled yet; ust import or ust review it")
        # As given: a person answered for the group and for each of its labels, which need not exhaust it.
        return read_annotations(path, self.taxonomy, AS_GIVEN)

    def audio(self, clip: str) -> Path:
        """The file of a clip."""
        return self.folder / AUDIO / clip

    def number_of(self, annotator: str) -> int:
        """The number of an annotator, a new one if need be; that of "" is the ground truth's.

        Raises
        ------
        UserError
            If the name is none.
        """
        if annotator == "":
            return GROUND_TRUTH
        if len(annotator) > LONGEST_NAME or not annotator.isprintable() or annotator != annotator.strip():
            raise UserError(
                f"the annotator's name is {annotator[:20]!r}…, should be of 1 to {LONGEST_NAME} letters"
            )
        known = self.annotators()
        if annotator not in known:
            known[annotator] = max(known.values(), default=GROUND_TRUTH) + 1
            _write_rows(
                self.folder / ANNOTATORS, ["annotator_id", "name"], [[n, a] for a, n in known.items()]
            )
        return known[annotator]

    def annotators(self) -> dict[str, int]:
        """Numbers by name."""
        path = self.folder / ANNOTATORS
        if not path.exists():
            return {}
        table = read_csv(path, dtype={"name": str}, keep_default_na=False)
        if list(table.columns) != ["annotator_id", "name"] or not pd.api.types.is_integer_dtype(
            table["annotator_id"]
        ):
            raise UserError(f"{path}: the columns should be annotator_id, a whole number, and name")
        return dict(zip(table["name"], table["annotator_id"].tolist(), strict=True))

    def write_clips(self, clips: pd.DataFrame) -> None:
        """Write down what clips there are."""
        rows = clips.reset_index()[list(CLIP_COLUMNS)].itertuples(index=False)
        _write_rows(self.folder / CLIPS, CLIP_COLUMNS, rows)

    def say(self, answers: Sequence[tuple[str, str, Mapping[str, int]]]) -> None:
        """Write down what was heard, at once and on the disk, in the place of what the same one said before.

        To be alone for (`alone`).

        Parameters
        ----------
        answers : sequence of (clip, annotator, answers)
            The answers are by label, 1 heard, 0 not heard, -1 not asked or unsure; -1 for the others.
        """
        clips = self.clips()
        path = self.folder / ANNOTATIONS
        rows: dict[tuple[str, str], list[object]] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8-sig") as file:
                header, *there = list(csv.reader(file)) or [[]]
            if header != self.columns:
                raise UserError(f"{path}: its columns are not those of {self.folder / TAXONOMY}")
            rows = {(row[2], row[3]): row for row in there if row}
        numbers = {who: self.number_of(who) for who in dict.fromkeys(who for _, who, _ in answers)}
        splits, sensors = clips["split"].to_dict(), clips["sensor_id"].to_dict()
        for clip, annotator, answer in answers:
            if clip not in splits:
                raise UserError(f"{self.folder}: there is no clip {clip!r}")
            number = numbers[annotator]
            context = [splits[clip], sensors[clip], clip, number]
            said = [int(answer.get(label, -1)) for label in self.taxonomy.labels]
            rows[clip, str(number)] = [*context, *said]
        _write_rows(path, self.columns, rows.values())


def _write_rows(path: Path, columns: Sequence[str], rows: object) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    with replacing(path) as partial:
        partial.write_text(buffer.getvalue(), "utf-8")
