"""A folder of custom clips and annotations in the layout of SONYC-UST.

| file | content |
| --- | --- |
| ``dcase-ust-taxonomy.yaml`` | the classes |
| ``audio/`` | the clips |
| ``clips.csv`` | split, group and source recording of each clip |
| ``annotations.csv`` | presence of each label, by clip and annotator |
| ``annotators.csv`` | the annotators' names and ids |
| ``implied.csv`` | the values of ``annotations.csv`` that an import inferred (`ust.datasets.presence`) |
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import chain
from pathlib import Path

import pandas as pd

from ust.annotations.annotations import AS_GIVEN, GROUND_TRUTH, KEYS, read_annotations
from ust.annotations.taxonomy import Taxonomy, label_number, read_taxonomy
from ust.datasets.formats.base import Status
from ust.datasets.presence import Statuses, combine_statuses, convert_to_presence, find_contradictions
from ust.datasets.source import ANNOTATIONS, AUDIO, TAXONOMY
from ust.util.documents import write_yaml
from ust.util.errors import UserError
from ust.util.files import atomic_write, lock_folder
from ust.util.names import nfc
from ust.util.tables import read_csv

CLIPS, ANNOTATORS = "clips.csv", "annotators.csv"
IMPLIED = "implied.csv"
IMPLIED_KEYS = ("audio_filename", "annotator_id", "source")
IMPLIED_COLUMNS = {"not_named": Status.INFERRED_ABSENT, "in_doubt": Status.UNCERTAIN}
REVIEW = "ust review"  # its name as a source of annotations
CLIP_COLUMNS = ("audio_filename", "split", "sensor_id", "recording", "source", "start", "end", "gain_db")
MAX_ANNOTATOR_LENGTH = 80


class Collection:
    """A folder of clips and annotations; every method reads the current files.

    Raises
    ------
    UserError
        If the folder has no taxonomy.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / TAXONOMY).is_file():
            raise UserError(f"{folder}: has no {TAXONOMY}; ust init {folder} makes it")
        self.folder = folder
        self.taxonomy: Taxonomy = read_taxonomy(folder / TAXONOMY)

    @classmethod
    def create(cls, folder: Path, taxonomy: Mapping[str, object]) -> "Collection":
        """Create a collection with a taxonomy in the layout of ``dcase-ust-taxonomy.yaml``."""
        with atomic_write(folder / TAXONOMY) as partial:
            write_yaml(partial, dict(taxonomy))
        return cls(folder)

    @property
    def columns(self) -> list[str]:
        """The columns of ``annotations.csv``."""
        return [*KEYS, *(f"{label}_presence" for label in self.taxonomy.labels)]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the folder, which every write requires."""
        with lock_folder(self.folder):
            yield

    def clips(self) -> pd.DataFrame:
        """Return the table of clips, indexed by ``audio_filename``.

        Returns
        -------
        pandas.DataFrame
            The columns `CLIP_COLUMNS`. ``start`` and ``end`` are seconds in the recording. ``gain_db`` is the
            gain applied when the clip was stored, so that no peak is clipped; usually 0.

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
        if list(table.columns) == list(CLIP_COLUMNS[:-1]):  # of versions without gain_db
            table["gain_db"] = 0.0
        if list(table.columns) != list(CLIP_COLUMNS):
            raise UserError(f"{path}: the columns should be {', '.join(CLIP_COLUMNS)}")
        return table.set_index("audio_filename")

    def annotations(self) -> pd.DataFrame:
        """Return the table of `ust.annotations.annotations.read_annotations`.

        Raises
        ------
        UserError
            If there are no annotations, or the file is invalid.
        """
        path = self.folder / ANNOTATIONS
        if not path.exists():
            raise UserError(f"{self.folder}: nothing is labelled yet; run ust import or ust review")
        # AS_GIVEN, because the fine labels of custom classes need not cover their whole group.
        return read_annotations(path, self.taxonomy, AS_GIVEN)

    def clip_path(self, clip: str) -> Path:
        """Return the path of a clip."""
        return self.folder / AUDIO / clip

    def get_or_create_annotator_id(self, annotator: str) -> int:
        """Return the id of an annotator, a new one for a new name; the name "" is the ground truth.

        Raises
        ------
        UserError
            If the name is invalid.
        """
        annotator = nfc(annotator)
        if annotator == "":
            return GROUND_TRUTH
        too_long = len(annotator) > MAX_ANNOTATOR_LENGTH
        if too_long or not annotator.isprintable() or annotator != annotator.strip():
            raise UserError(
                f"the annotator's name is {annotator[:20]!r}{'…' if too_long else ''}, should have 1 to "
                f"{MAX_ANNOTATOR_LENGTH} printable characters, without spaces at the ends"
            )
        known = self.annotators()
        if annotator not in known:
            known[annotator] = max(known.values(), default=GROUND_TRUTH) + 1
            _write_rows(
                self.folder / ANNOTATORS, ["annotator_id", "name"], [[n, a] for a, n in known.items()]
            )
        return known[annotator]

    def annotators(self) -> dict[str, int]:
        """Return the ids of the annotators by name."""
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
        """Write the table of clips."""
        rows = clips.reset_index()[list(CLIP_COLUMNS)].itertuples(index=False)
        _write_rows(self.folder / CLIPS, CLIP_COLUMNS, rows)

    def upsert_annotations(self, annotations: Sequence[tuple[str, str, Mapping[str, int]]]) -> None:
        """Write annotations to disk; each replaces the earlier annotation of its clip and annotator.

        Call inside `lock()`.

        Parameters
        ----------
        annotations : sequence of (clip, annotator, presence)
            Presence by label: 1 present, 0 absent, -1 unsure. Missing labels are stored as -1, not asked.
        """
        stored = _StoredAnnotations(self)
        for clip, annotator, presence in annotations:
            unsure = [label for label, value in presence.items() if value == Status.NOT_ASKED]
            implied = {REVIEW: dict.fromkeys(unsure, Status.UNCERTAIN)}
            stored.replace(clip, annotator, presence, implied, keep_empty=True)
        stored.write()

    def unsure(self, annotator: str) -> dict[str, list[str]]:
        """Return the labels that an annotator was unsure of in a review, by clip; other -1 are not asked."""
        number = str(self.annotators().get(annotator))
        return {
            clip: [label for label, status in sources.get(REVIEW, {}).items() if status == Status.UNCERTAIN]
            for (clip, stored), sources in _StoredAnnotations(self).implied.items()
            if stored == number
        }

    def merge(
        self, statuses: Mapping[tuple[str, str], Statuses], *, source: str = "", replace: bool = False
    ) -> list[tuple[str, str, str]]:
        """Combine statuses with the earlier annotations of the same clips and annotators.

        `ust.datasets.presence` describes how statuses combine. Call inside `lock()`.

        Parameters
        ----------
        statuses : mapping of (clip, annotator) to dict
            Status by label.
        source : str
            Name of the label source. Values that an earlier import of the same source inferred are dropped,
            because its file may have been corrected.
        replace : bool
            Replace the earlier annotations instead.

        Returns
        -------
        list of (clip, annotator, label)
            Contradictions: labels that are both present and explicitly absent. They are kept as present.
        """
        stored, clashes = _StoredAnnotations(self), []
        for (clip, annotator), new in statuses.items():
            explicit, implied = ({}, {}) if replace else stored.statuses(clip, annotator)
            implied.pop(source, None)
            before = reduce(combine_statuses, implied.values(), explicit)
            clashes += [(clip, annotator, label) for label in find_contradictions(before, new)]
            merged = combine_statuses(before, new)
            open_labels = {
                label
                for label, status in merged.items()
                if status in (Status.INFERRED_ABSENT, Status.UNCERTAIN)
            }
            implied = {
                name: {label: status for label, status in of_source.items() if label in open_labels}
                for name, of_source in {**implied, source: new}.items()
            }
            stored.replace(
                clip, annotator, convert_to_presence(merged, self.taxonomy), implied, keep_empty=False
            )
        stored.write()
        return clashes


class _StoredAnnotations:
    """The content of annotations.csv and implied.csv, by clip and annotator."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.labels = collection.taxonomy.labels
        clips = collection.clips()
        self.splits, self.sensors = clips["split"].to_dict(), clips["sensor_id"].to_dict()
        self.annotator_ids: dict[str, int] = {}
        # A clip may have several rows of an annotator, which were not written here.
        self.rows: dict[tuple[str, str], list[list[object]]] = {}
        path = collection.folder / ANNOTATIONS
        if path.exists():
            if list(read_csv(path, nrows=0)) != collection.columns:
                raise UserError(f"{path}: its columns are not those of {collection.folder / TAXONOMY}")
            for split, sensor, clip, number, *values in collection.annotations().itertuples(index=False):
                row = [split, sensor, clip, number, *values]
                self.rows.setdefault((clip, str(number)), []).append(row)
        self.implied = self._read_implied()

    def _read_implied(self) -> dict[tuple[str, str], dict[str, Statuses]]:
        """Read the inferred statuses by clip and annotator, then by source."""
        path = self.collection.folder / IMPLIED
        if not path.exists():
            return {}
        table = read_csv(path, dtype=str, keep_default_na=False)
        if list(table.columns) != [*IMPLIED_KEYS, *IMPLIED_COLUMNS]:
            raise UserError(
                f"{path}: the columns should be {', '.join((*IMPLIED_KEYS, *IMPLIED_COLUMNS))}; without the "
                "file, each 0 in annotations.csv counts as explicit"
            )
        by_number = {label_number(label): label for label in self.labels}
        implied: dict[tuple[str, str], dict[str, Statuses]] = {}
        for row in table.to_dict("records"):
            clip, annotator, source = (row[key] for key in IMPLIED_KEYS)
            implied.setdefault((clip, annotator), {})[source] = {
                by_number[number]: status
                for column, status in IMPLIED_COLUMNS.items()
                for number in row[column].split()
                if number in by_number
            }
        return implied

    def _key(self, clip: str, annotator: str) -> tuple[str, str]:
        """Return clip and annotator_id as they are written in both files."""
        if clip not in self.splits:
            raise UserError(f"{self.collection.folder}: there is no clip {clip!r}")
        if annotator not in self.annotator_ids:
            self.annotator_ids[annotator] = self.collection.get_or_create_annotator_id(annotator)
        return clip, str(self.annotator_ids[annotator])

    def statuses(self, clip: str, annotator: str) -> tuple[Statuses, dict[str, Statuses]]:
        """Return the explicit statuses of a clip, and the inferred ones by source."""
        key = self._key(clip, annotator)
        implied = {source: dict(inferred) for source, inferred in self.implied.get(key, {}).items()}
        only_implied = {label for inferred in implied.values() for label in inferred}
        status = {1: Status.PRESENT, 0: Status.ABSENT}
        explicit: Statuses = {}
        for row in self.rows.get(key, ()):
            presence = zip(self.labels, row[len(KEYS) :], strict=True)
            new = {label: status[value] for label, value in presence if value in status}
            explicit = combine_statuses(explicit, new)
        return {label: explicit[label] for label in explicit if label not in only_implied}, implied

    def replace(
        self,
        clip: str,
        annotator: str,
        presence: Mapping[str, int],
        implied: dict[str, Statuses],
        *,
        keep_empty: bool,
    ) -> None:
        """Replace rows; unless `keep_empty`, delete them if all values are -1, which states nothing."""
        key = self._key(clip, annotator)
        values = [int(presence.get(label, Status.NOT_ASKED)) for label in self.labels]
        self.rows[key] = [[self.splits[clip], self.sensors[clip], *key, *values]]
        self.implied[key] = implied
        if not keep_empty and all(value == Status.NOT_ASKED for value in values):
            del self.rows[key]

    def write(self) -> None:
        """Write both files."""
        folder = self.collection.folder
        lines = []
        for key, sources in self.implied.items():
            for source, implied in sorted(sources.items()):
                columns = [
                    " ".join(label_number(label) for label in self.labels if implied.get(label) == status)
                    for status in IMPLIED_COLUMNS.values()
                ]
                if any(columns):
                    lines.append([*key, source, *columns])
        if lines or (folder / IMPLIED).exists():
            _write_rows(folder / IMPLIED, [*IMPLIED_KEYS, *IMPLIED_COLUMNS], lines)
        if self.rows:
            _write_rows(folder / ANNOTATIONS, self.collection.columns, chain(*self.rows.values()))
        else:
            (folder / ANNOTATIONS).unlink(missing_ok=True)


def _write_rows(path: Path, columns: Sequence[str], rows: object) -> None:
    """Write a CSV file atomically."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
