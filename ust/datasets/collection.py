"""A folder of somebody's own clips, in the layout of SONYC-UST, with what is known of each.

``dcase-ust-taxonomy.yaml`` has the classes, ``audio/`` the clips, ``clips.csv`` where each comes from,
``annotations.csv`` who heard what, ``annotators.csv`` who has which number there, and ``implied.csv`` which
values of ``annotations.csv`` an import implied: 0 where no label names the class, -1 where a line that may
concern it could not be placed.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import pandas as pd

from ust.annotations.annotations import AS_GIVEN, GROUND_TRUTH, KEYS, read_annotations
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
from ust.datasets.formats.base import ABSENT, IN_DOUBT, PRESENT, UNKNOWN
from ust.datasets.presence import NOT_NAMED, Statuses, combine_statuses, contradictions, presence_values
from ust.util.documents import write_yaml
from ust.util.errors import UserError
from ust.util.files import atomic_write, lock_folder
from ust.util.names import nfc
from ust.util.tables import read_csv

TAXONOMY, ANNOTATIONS = "dcase-ust-taxonomy.yaml", "annotations.csv"
CLIPS, ANNOTATORS, AUDIO = "clips.csv", "annotators.csv", "audio"
IMPLIED = "implied.csv"
IMPLIED_KEYS = ("audio_filename", "annotator_id", "source")
IMPLIED_COLUMNS = {"not_named": NOT_NAMED, "in_doubt": IN_DOUBT}
REVIEW = "ust review"  # as a source
CLIP_COLUMNS = ("audio_filename", "split", "sensor_id", "recording", "source", "start", "end", "gain_db")
MAX_NAME_LENGTH = 80


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
    def create(cls, folder: Path, taxonomy: Mapping[str, object]) -> "Collection":
        """A new one, of a taxonomy in its file's layout."""
        with atomic_write(folder / TAXONOMY) as partial:
            write_yaml(partial, dict(taxonomy))
        return cls(folder)

    @property
    def columns(self) -> list[str]:
        """Of the annotations."""
        return [*KEYS, *(f"{label}_presence" for label in self.taxonomy.labels)]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing."""
        with lock_folder(self.folder):
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
        """As `ust.annotations.annotations.read_annotations` gives them.

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

    def clip_path(self, clip: str) -> Path:
        """The file of a clip."""
        return self.folder / AUDIO / clip

    def annotator_id(self, annotator: str) -> int:
        """The number of an annotator, a new one if need be; that of "" is the ground truth's.

        Raises
        ------
        UserError
            If the name is none.
        """
        annotator = nfc(annotator)
        if annotator == "":
            return GROUND_TRUTH
        if len(annotator) > MAX_NAME_LENGTH or not annotator.isprintable() or annotator != annotator.strip():
            raise UserError(
                f"the annotator's name is {annotator[:20]!r}…, should be of 1 to {MAX_NAME_LENGTH} letters"
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

    def upsert_annotations(self, answers: Sequence[tuple[str, str, Mapping[str, int]]]) -> None:
        """Write answers to disk at once, in the place of what the same annotator said of the clip before.

        The caller holds the lock (`lock`).

        Parameters
        ----------
        answers : sequence of (clip, annotator, answers)
            The answers are by label, 1 heard, 0 not heard, -1 not asked or unsure; -1 for the others.
        """
        stored = _Stored(self)
        for clip, annotator, answer in answers:
            unsure = [label for label, value in answer.items() if value == UNKNOWN]
            implied = {REVIEW: dict.fromkeys(unsure, IN_DOUBT)}
            stored.replace(clip, annotator, answer, implied, keep_empty=True)
        stored.write()

    def merge(
        self, answers: Mapping[tuple[str, str], Statuses], *, source: str = "", replace: bool = False
    ) -> list[tuple[str, str, str]]:
        """Add answers to what the same annotators said of the clips before (`ust.datasets.presence`).

        The caller holds the lock (`lock`).

        Parameters
        ----------
        answers : mapping of (clip, annotator) to answer
        source : str
            Where they come from. What the same source implied before is dropped: a line that could not be
            placed may be corrected now.
        replace : bool
            Put them in the place of what was said before.

        Returns
        -------
        list of (clip, annotator, label)
            Contradictions: labels that were present and explicitly absent. They are kept as present.
        """
        stored, found = _Stored(self), []
        for (clip, annotator), answer in answers.items():
            stated, implied = ({}, {}) if replace else stored.answer(clip, annotator)
            implied.pop(source, None)
            before = reduce(combine_statuses, implied.values(), stated)
            found += [(clip, annotator, label) for label in contradictions(before, answer)]
            merged = combine_statuses(before, answer)
            open_labels = {label for label, status in merged.items() if status in (NOT_NAMED, IN_DOUBT)}
            implied = {
                name: {label: status for label, status in said.items() if label in open_labels}
                for name, said in {**implied, source: answer}.items()
            }
            stored.replace(clip, annotator, presence_values(merged, self.taxonomy), implied, keep_empty=False)
        stored.write()
        return found


class _Stored:
    """The content of annotations.csv and implied.csv, by clip and annotator."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.labels = collection.taxonomy.labels
        clips = collection.clips()
        self.splits, self.sensors = clips["split"].to_dict(), clips["sensor_id"].to_dict()
        self.numbers: dict[str, int] = {}
        self.rows: dict[tuple[str, str], list[object]] = {}
        path = collection.folder / ANNOTATIONS
        if path.exists():
            with path.open(newline="", encoding="utf-8-sig") as file:
                header, *there = list(csv.reader(file)) or [[]]
            if header != collection.columns:
                raise UserError(f"{path}: its columns are not those of {collection.folder / TAXONOMY}")
            self.rows = {(row[2], row[3]): row for row in there if row}
        self.implied = self._read_implied()

    def _read_implied(self) -> dict[tuple[str, str], dict[str, Statuses]]:
        path = self.collection.folder / IMPLIED
        if not path.exists():
            return {}
        table = read_csv(path, dtype=str, keep_default_na=False)
        if list(table.columns) != [*IMPLIED_KEYS, *IMPLIED_COLUMNS]:
            raise UserError(
                f"{path}: the columns should be {', '.join((*IMPLIED_KEYS, *IMPLIED_COLUMNS))}; without the "
                "file, each 0 in annotations.csv counts as said explicitly"
            )
        by_number = {_number(label): label for label in self.labels}
        found: dict[tuple[str, str], dict[str, Statuses]] = {}
        for row in table.to_dict("records"):
            clip, annotator, source = (row[key] for key in IMPLIED_KEYS)
            found.setdefault((clip, annotator), {})[source] = {
                by_number[number]: status
                for column, status in IMPLIED_COLUMNS.items()
                for number in row[column].split()
                if number in by_number
            }
        return found

    def _key(self, clip: str, annotator: str) -> tuple[str, str]:
        if clip not in self.splits:
            raise UserError(f"{self.collection.folder}: there is no clip {clip!r}")
        if annotator not in self.numbers:
            self.numbers[annotator] = self.collection.annotator_id(annotator)
        return clip, str(self.numbers[annotator])

    def answer(self, clip: str, annotator: str) -> tuple[Statuses, dict[str, Statuses]]:
        """Return what was stated explicitly of a clip, and by source what was implied."""
        key = self._key(clip, annotator)
        implied = {source: dict(answer) for source, answer in self.implied.get(key, {}).items()}
        only_implied = {label for answer in implied.values() for label in answer}
        status = {"1": PRESENT, "0": ABSENT}
        said = zip(self.labels, self.rows.get(key, ())[len(KEYS) :], strict=False)
        stated = {
            label: status[str(value)]
            for label, value in said
            if str(value) in status and label not in only_implied
        }
        return stated, implied

    def replace(
        self,
        clip: str,
        annotator: str,
        answer: Mapping[str, int],
        implied: dict[str, Statuses],
        *,
        keep_empty: bool,
    ) -> None:
        """Set a row; without `keep_empty`, one of -1 only is left out: the clip counts as not labelled."""
        key = self._key(clip, annotator)
        said = [int(answer.get(label, UNKNOWN)) for label in self.labels]
        self.rows[key] = [self.splits[clip], self.sensors[clip], *key, *said]
        self.implied[key] = implied
        if not keep_empty and all(value == UNKNOWN for value in said):
            del self.rows[key]

    def write(self) -> None:
        """Write both files."""
        folder = self.collection.folder
        lines = []
        for key, sources in self.implied.items():
            for source, implied in sorted(sources.items()):
                columns = [
                    " ".join(_number(label) for label in self.labels if implied.get(label) == status)
                    for status in IMPLIED_COLUMNS.values()
                ]
                if any(columns):
                    lines.append([*key, source, *columns])
        if lines or (folder / IMPLIED).exists():
            _write_rows(folder / IMPLIED, [*IMPLIED_KEYS, *IMPLIED_COLUMNS], lines)
        if self.rows:
            _write_rows(folder / ANNOTATIONS, self.collection.columns, self.rows.values())
        else:
            (folder / ANNOTATIONS).unlink(missing_ok=True)


def _number(label: str) -> str:
    """Return the number of a label: "3-1" of "3-1_voices"."""
    return label.split("_", 1)[0]


def _write_rows(path: Path, columns: Sequence[str], rows: object) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    with atomic_write(path) as partial:
        partial.write_text(buffer.getvalue(), "utf-8")
