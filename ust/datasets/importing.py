"""Import labelled recordings into a collection: map class names, cut clips, label them, split them."""

import re
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.taxonomy import Taxonomy, label_name, label_number
from ust.audio.recordings import CLIP_SECONDS, BadAudio, FlacSamples, explain_read_errors, read_windows
from ust.datasets.collection import CLIP_COLUMNS, Collection
from ust.datasets.formats.base import Annotation, Status
from ust.datasets.presence import Statuses, combine_statuses, convert_to_presence, find_contradictions
from ust.util.digests import file_digest
from ust.util.errors import UserError
from ust.util.names import nfc, printable
from ust.util.progress import Progress, silent
from ust.util.seeding import random_stream

MAX_CLASSES = 1000
MIN_CLIP_SECONDS = 1.0  # a shorter remainder at the end of a recording gives no clip
# A clip gets the label of an annotation if it contains this many seconds of it, or half of a shorter one.
MIN_OVERLAP = 0.1
EPSILON = 1e-9  # tolerance of times, in seconds
DIGEST_DIGITS = 16  # hexadecimal digits of a recording's digest
MAX_GROUP_LENGTH = 60  # characters of the recording's name in a clip's name
RejectClip = Callable[[np.ndarray, int], str | None]
ClipStatuses = dict[tuple[str, str], Statuses]  # by clip and annotator


def slugify(text: str) -> str:
    """Return a name in the form used in labels: lower case, words joined by hyphens.

    Examples
    --------
    >>> slugify(" Church bell (big)")
    'church-bell-big'
    """
    return re.sub(r"[\W_]+", "-", nfc(text).strip().lower()).strip("-")


def clean_class_name(text: str) -> str:
    """Return a class name as the user wrote it, without characters that a file name cannot have.

    Examples
    --------
    >>> clean_class_name(" Church_bell  (big) ")
    'Church_bell (big)'
    """
    return re.sub(r"[/\\\x00-\x1f]+", "-", " ".join(nfc(text).split()))


def taxonomy_from_classes(classes: Iterable[str]) -> dict[str, Any]:
    """Return a taxonomy in the layout of ``dcase-ust-taxonomy.yaml``.

    Parameters
    ----------
    classes : iterable of str
        Names such as "tram", or "market: voices" for a fine class of the coarse class "market". The coarse
        class need not be listed. Names that differ only in case or punctuation are the same class.

    Raises
    ------
    UserError
        If there are no classes, or one has no letters, is listed twice or has three levels.

    Examples
    --------
    >>> taxonomy_from_classes(["tram", "market: voices", "market: cart"])
    {'coarse': {1: 'tram', 2: 'market'}, 'fine': {2: {1: 'voices', 2: 'cart'}}}
    """
    names: dict[str, str] = {}  # of coarse classes, by slug
    members: dict[str, list[str]] = {}
    seen: set[tuple[str, ...]] = set()
    for text in classes:
        parts = [clean_class_name(part) for part in text.split(":")]
        slugs = tuple(map(slugify, parts))
        if len(parts) > 2 or not all(slugs):
            raise UserError(
                f"the class {text!r} should be a name, or two names with a colon: 'market: voices'"
            )
        if slugs in seen:
            raise UserError(f"the class {text!r} is listed twice")
        seen.add(slugs)
        coarse, *fine = parts
        names.setdefault(slugs[0], coarse)
        members[slugs[0]] = [*members.get(slugs[0], []), *fine]
    groups = {names[key]: fine for key, fine in members.items()}
    if not groups or sum(map(len, groups.values())) + len(groups) > MAX_CLASSES:
        raise UserError(f"there should be at least one class, and at most {MAX_CLASSES}")
    numbered = list(enumerate(groups.items(), start=1))
    fine = {number: dict(enumerate(members, start=1)) for number, (_, members) in numbered if members}
    return {"coarse": {number: name for number, (name, _) in numbered}} | ({"fine": fine} if fine else {})


class LabelResolver:
    """Maps class names of a label source to labels of a taxonomy."""

    def __init__(self, taxonomy: Taxonomy, renamed: Mapping[str, str]) -> None:
        self._labels: dict[str, list[str]] = {}
        for group, coarse in enumerate(taxonomy.coarse):
            self._add(coarse, taxonomy.coarse_name(group), coarse)
            for label in taxonomy.fine_labels(group):
                name = label_name(label)
                for text in (name, f"{taxonomy.coarse_name(group)}: {name}", label):
                    self._add(label, text, text)
        self._renamed = {}
        for old, new in renamed.items():
            self._renamed[slugify(old)] = self._find(new) if new.strip() else ""
        if unknown := [new for new in renamed.values() if new.strip() and self._find(new) is None]:
            raise UserError(
                f"--map: there is no class {unknown[0]!r}; there are {', '.join(taxonomy.labels)}"
            )

    def _add(self, label: str, *texts: str) -> None:
        """Add names of a label."""
        for text in {slugify(text) for text in texts}:
            self._labels.setdefault(text, []).append(label)

    def _find(self, text: str) -> str | None:
        """Return the label with a name; of a coarse and a fine label with the same name, the fine one."""
        labels = dict.fromkeys(self._labels.get(slugify(text), []))
        fine = [label for label in labels if "-" in label_number(label)]
        candidates = fine or list(labels)
        return candidates[0] if len(candidates) == 1 else None

    def resolve(self, text: str) -> str | None:
        """Return the label of a class name; "" if it is mapped to no class, None if it is unknown."""
        renamed = self._renamed.get(slugify(text))
        return self._find(text) if renamed is None else renamed


def guess_group_pattern(names: Iterable[str]) -> tuple[str, list[str]] | None:
    """Return a pattern for `--group` and two example names, if recordings seem to be slices of few sources.

    Slices of one source begin with the same word: ``134717-0-0-1.wav`` and ``134717-0-0-23.wav``. Returns
    None unless at least half of the names share their first word with another name.

    Examples
    --------
    >>> guess_group_pattern(["134717-0-0-1.wav", "134717-0-0-23.wav", "9031-3-0-0.wav", "9031-3-1-0.wav"])
    ('^([^-]+)-', ['134717-0-0-1.wav', '134717-0-0-23.wav'])
    >>> guess_group_pattern(["tram-1.wav", "tram-2.wav", "tram-3.wav", "bell.wav"]) is None
    True
    """
    names = sorted(set(names))
    for separator in "-_":
        groups: dict[str, list[str]] = {}
        for name in names:
            before, found, _ = name.partition(separator)
            groups.setdefault(before if found else name, []).append(name)
        families = [members for members in groups.values() if len(members) > 1]
        shared = sum(map(len, families))
        # A first word that more than half of the names have is no source.
        if len(families) > 1 and shared >= len(names) / 2 and max(map(len, families)) <= len(names) / 2:
            return f"^([^{separator}]+){separator}", families[0][:2]
    return None


def split_groups(counts: Mapping[str, np.ndarray], *, validate: float, seed: int) -> dict[str, str]:
    """Split groups of clips into train and validate, stratified by class; return the split of each group.

    `counts` has the number of clips of each class, by group. Groups are assigned in the order of their rarest
    class, each to the split that lacks most clips of it.

    References
    ----------
    Sechidis, Tsoumakas & Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011; here applied to
    groups instead of single examples.

    Examples
    --------
    >>> split_groups({"street": np.array([4, 0]), "square": np.array([4, 0])}, validate=0.5, seed=0)
    {'square': 'train', 'street': 'validate'}
    """
    names = sorted(counts)
    if not names or validate == 0:
        return dict.fromkeys(names, "train")
    table = np.stack([counts[name] for name in names]).astype(np.float64)
    total = table.sum(axis=0)
    shares = {"train": 1 - validate, "validate": validate}
    missing = {split: share * total for split, share in shares.items()}  # clips that a split lacks, by class
    assigned = dict.fromkeys(shares, 0)  # number of groups
    shuffled = random_stream(seed, "deal").permutation(len(names))
    # Groups without any class come last, like groups of a very common class.
    rarest = [min((total[k] for k in np.flatnonzero(row)), default=np.inf) for row in table]
    splits = {}
    for index in sorted(shuffled, key=lambda index: (rarest[index], -table[index].sum())):
        row = table[index]
        classes = np.flatnonzero(row)
        if len(classes):
            rare = classes[np.argmin(total[classes])]
            need = {split: missing[split][rare] / max(shares[split], 1e-9) for split in shares}
        else:
            need = {split: -assigned[split] / max(shares[split], 1e-9) for split in shares}
        split = max(need, key=lambda name: (need[name], shares[name]))
        missing[split] = missing[split] - row
        assigned[split] += 1
        splits[names[index]] = split
    return splits


@dataclass
class ImportResult:
    """Result of an import."""

    clips: int = 0  # number of new clips
    known: int = 0  # number of clips that the collection already had
    problems: list[str] = field(default_factory=list)  # one line per item that could not be used
    # One line per label that is present in one source and explicitly absent in another
    contradictions: list[str] = field(default_factory=list)
    # One line per recording that could not be read to the end, with the reason
    unreadable: list[str] = field(default_factory=list)
    # One line per incomplete recording, which was used as far as it can be read
    warnings: list[str] = field(default_factory=list)


def import_recordings(
    collection: Collection,
    annotations: Iterable[Annotation],
    root: Path,
    *,
    renamed: Mapping[str, str],
    split: str | None,
    validate: float,
    seed: int,
    only_labelled: bool = False,
    asked: Iterable[str] | None = None,
    source_name: str = "",
    replace: bool = False,
    unlabelled: bool = False,
    reject: RejectClip | None = None,
    progress: Progress = silent,
) -> ImportResult:
    """Cut recordings into clips of ten seconds, label the clips, and add them to a collection.

    A clip gets the labels of the annotations that overlap it, in addition to its earlier labels by the same
    annotator. If an annotator labelled a recording, the classes in `asked` that the annotator does not name
    are absent (0). An annotation that cannot be used is listed as a problem, and its class is -1 in the clips
    that it may concern (`ust.datasets.presence`). Recordings without any annotation of a known class are
    skipped. The recordings themselves are not changed. Call inside `Collection.lock()`.

    Parameters
    ----------
    root : Path
        Folder of the recordings; ``clips.csv`` has paths relative to it.
    renamed : mapping of str to str
        See `LabelResolver`.
    split : str or None
        Split of all new clips; None to split them into train and validate by group.
    validate, seed
        See `split_groups`.
    only_labelled : bool
        Skip clips without a present label.
    asked : iterable of str, optional
        Classes that the annotators were asked to label; by default all. Other classes are -1 if not named.
    source_name : str
        Name of the label source; see `Collection.merge`.
    replace : bool
        Replace earlier labels of the same clips and annotators.
    unlabelled : bool
        Also add recordings without annotations of a known class.
    reject : callable, optional
        ``reject(samples, sample_rate)`` returns the reason for rejecting a new clip, or None to add it.

    Returns
    -------
    ImportResult
    """
    result, root, taxonomy = ImportResult(), root.resolve(), collection.taxonomy
    labels = LabelResolver(taxonomy, renamed)
    by_recording = _group_by_recording(annotations, labels, result, unlabelled=unlabelled)
    asked = _resolve_asked(asked, labels, taxonomy)
    writer = _ClipWriter(collection, reject, result)
    statuses: ClipStatuses = {}
    for path, of_recording in progress(
        by_recording.items(), total=len(by_recording), description="cutting", unit="recording"
    ):
        spans: list[tuple[float, float]] = []
        clips: list[tuple[str, float, float]] = []
        present = _OverlapFinder(
            annotation
            for annotation in of_recording
            if annotation.label and annotation.status == Status.PRESENT
        )
        try:
            recording = _Recording.read(path, root, of_recording)
            result.problems += _list_ambiguous(recording, of_recording)
            for start, end, samples, rate in _cut(path, result.warnings.append):
                spans.append((start, end))
                if only_labelled and not present.find(start, end):
                    continue
                if name := writer.add(recording, start, end, samples, rate):
                    clips.append((name, start, end))
        except BadAudio as error:
            result.unreadable.append(str(error))
        of_recording = _check_times(of_recording, spans, result)
        annotators = list(dict.fromkeys(each.annotator for each in of_recording if _is_labelled(each)))
        finder = _OverlapFinder(of_recording)
        for name, start, end in clips:
            overlapping = finder.find(start, end)
            by_annotator = _clip_statuses(overlapping, annotators, start, end, taxonomy, asked, result)
            for annotator, new_statuses in by_annotator.items():
                before = statuses.get((name, annotator), {})
                result.contradictions += _format_contradictions(
                    [(name, annotator, label) for label in find_contradictions(before, new_statuses)],
                    {name: recording.source},
                )
                statuses[name, annotator] = combine_statuses(before, new_statuses)
    result.clips = len(writer.new)
    if writer.new:
        _assign_splits(writer.new, statuses, writer.clips, taxonomy, split, validate=validate, seed=seed)
        table = pd.DataFrame(writer.new, columns=list(CLIP_COLUMNS)).set_index("audio_filename")
        collection.write_clips(pd.concat([writer.clips, table]) if len(writer.clips) else table)
    if statuses:
        clashes = collection.merge(statuses, source=source_name, replace=replace)
        result.contradictions += _format_contradictions(clashes, collection.clips()["source"].to_dict())
    return result


@dataclass(frozen=True)
class _Recording:
    """A recording, with the values that its clips have in common in ``clips.csv``."""

    path: Path
    source: str
    digest: str
    group: str
    split: str

    @classmethod
    def read(cls, path: Path, root: Path, annotations: list[Annotation]) -> "_Recording":
        """Describe a recording by its file and annotations; raise `BadAudio` if it cannot be read."""
        source = printable(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name)
        with explain_read_errors(printable(path)):
            digest = file_digest(path)[:DIGEST_DIGITS]
        group = next((slugify(annotation.group) for annotation in annotations if annotation.group), "")
        split = next((annotation.split for annotation in annotations if annotation.split), "")
        return cls(path, source, digest, group or _default_group(source, digest), split)


def _list_ambiguous(recording: _Recording, annotations: list[Annotation]) -> list[str]:
    """Return a message if the annotations of a recording name several splits or groups."""
    splits = dict.fromkeys(annotation.split for annotation in annotations if annotation.split)
    groups = dict.fromkeys(slugify(annotation.group) for annotation in annotations if annotation.group)
    return [
        f"{printable(recording.path)}: is in the {kind}s {' and '.join(names)}, should be in one; "
        f"{next(iter(names))} is used"
        for kind, names in (("split", splits), ("group", groups))
        if len(names) > 1
    ]


class _ClipWriter:
    """Writes clips to a collection, unless it has them already."""

    def __init__(self, collection: Collection, reject: RejectClip | None, result: ImportResult) -> None:
        self.collection, self.reject, self.result = collection, reject, result
        self.clips = collection.clips()  # those before the import
        self.new: list[dict[str, object]] = []  # rows of clips.csv
        keys = zip(self.clips["recording"], self.clips["start"], strict=True)
        self._names: dict[tuple[str, float], str] = dict(zip(keys, self.clips.index, strict=True))
        self._counts = Counter(self.clips["sensor_id"])

    def add(
        self, recording: _Recording, start: float, end: float, samples: np.ndarray, rate: int
    ) -> str | None:
        """Return the name of a clip, after writing it if it is new; None if it is silent or rejected."""
        key = (recording.digest, start)
        if key in self._names:
            self.result.known += 1
            return self._names[key]
        flac, problem = FlacSamples.from_samples(samples, rate), ""
        if not flac.values.any():
            problem = f"is silent from second {start:g}: every sample is 0"
        elif self.reject and (reason := self.reject(samples, rate)) is not None:
            problem = f"from second {start:g} is not kept: {reason}"
        if problem:
            self.result.problems.append(f"{printable(recording.path)}: {problem}")
            return None
        group = recording.group
        name = self._names[key] = f"{group}_{self._counts[group]:05}.flac"
        self._counts[group] += 1
        path = self.collection.clip_path(name)
        path.parent.mkdir(exist_ok=True)
        flac.write(path)
        self.new.append(
            {"audio_filename": name, "split": recording.split, "sensor_id": group,
             "recording": recording.digest, "source": recording.source, "start": start, "end": end,
             "gain_db": flac.gain_db}
        )  # fmt: skip
        return name


def import_unlabelled(
    collection: Collection,
    recordings: Iterable[Path],
    root: Path,
    *,
    reject: RejectClip | None = None,
    progress: Progress = silent,
) -> ImportResult:
    """Add unlabelled recordings to the train split of a collection, for review."""
    annotations = [Annotation(path, None, status=Status.NOT_ASKED) for path in recordings]
    return import_recordings(
        collection, annotations, root, renamed={}, split="train", validate=0, seed=0, unlabelled=True,
        reject=reject, progress=progress,
    )  # fmt: skip


def _group_by_recording(
    annotations: Iterable[Annotation], labels: LabelResolver, result: ImportResult, *, unlabelled: bool
) -> dict[Path, list[Annotation]]:
    """Return the annotations of each recording, with class names resolved to labels.

    An unknown class is listed as a problem and may be any class. A class that is mapped to none counts as
    "no class audible". Recordings without a known class are left out unless `unlabelled`.
    """
    by_recording: dict[Path, list[Annotation]] = {}
    unknown: dict[str, list[str]] = {}
    for annotation in annotations:
        label = labels.resolve(annotation.label) if annotation.label else None
        if annotation.label and label is None:
            unknown.setdefault(annotation.label, []).append(annotation.where)
            # The absence of an unknown class does not concern the other classes.
            doubtful = annotation.status in (Status.PRESENT, Status.UNCERTAIN)
            status = Status.UNCERTAIN if doubtful else Status.NOT_ASKED
            resolved = replace_fields(annotation, label=None, status=status)
        elif annotation.label and not label:
            resolved = replace_fields(annotation, label=None, status=Status.PRESENT)
        else:
            resolved = replace_fields(annotation, label=label)
        by_recording.setdefault(annotation.path.resolve(), []).append(resolved)
    for text, lines in unknown.items():
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        where = f"{lines[0]}{more}: " if lines[0] else ""
        result.problems.append(
            f"{where}the label {text!r} ({len(lines)} times) is none of the classes; --map {text!r}=CLASS "
            f"says which it is, --map {text!r}= that it is none"
        )
    return {
        path: of_recording
        for path, of_recording in sorted(by_recording.items())
        if unlabelled or any(map(_is_labelled, of_recording))
    }


def _is_labelled(annotation: Annotation) -> bool:
    """Return whether an annotation shows that its annotator labelled this recording for the classes."""
    return annotation.certain and (annotation.label is not None or annotation.status == Status.PRESENT)


def _resolve_asked(asked: Iterable[str] | None, labels: LabelResolver, taxonomy: Taxonomy) -> frozenset[str]:
    """Return the labels of the asked classes; a coarse class includes its fine ones."""
    if asked is None:
        return frozenset(taxonomy.labels)
    asked_labels = set()
    for text in asked:
        label = labels.resolve(text)
        if not label:
            raise UserError(f"--asked: there is no class {text!r}; there are {', '.join(taxonomy.labels)}")
        asked_labels.add(label)
        if label in taxonomy.coarse:
            asked_labels |= set(taxonomy.fine_labels(taxonomy.coarse.index(label)))
    return frozenset(asked_labels)


def _default_group(source: str, digest: str) -> str:
    """Return the group of a recording without one: its relative path, shortened."""
    name = slugify(source.rsplit(".", 1)[0])
    if 0 < len(name) <= MAX_GROUP_LENGTH:
        return name
    return f"{name[:MAX_GROUP_LENGTH]}-{digest[:8]}".lstrip("-")


def _cut(path: Path, warn: Callable[[str], object]) -> Iterable[tuple[float, float, np.ndarray, int]]:
    """Yield start, end, samples and sample rate of the clips of a recording.

    A remainder of less than `MIN_CLIP_SECONDS` is skipped.
    """
    for start, end, samples, rate in read_windows(path, window=CLIP_SECONDS, hop=CLIP_SECONDS, warn=warn):
        if start == 0 or end - start >= MIN_CLIP_SECONDS:
            yield start, end, samples, rate


def _check_times(
    annotations: list[Annotation], spans: list[tuple[float, float]], result: ImportResult
) -> list[Annotation]:
    """List annotations that overlap no clip of the recording; put their class in doubt in all clips.

    An annotation that begins within a second of the last clip's end puts only that clip in doubt, because it
    may lie in the remainder that gives no clip.
    """
    if not spans:
        return annotations
    last, length = spans[-1]
    checked, outside = [], []
    starts = [start for start, _ in spans]
    for annotation in annotations:
        nothing_audible = annotation.label is None and annotation.status == Status.PRESENT
        # Clips adjoin: an annotation is in the clip that it begins in or in the next one, or in none.
        first = max(bisect_right(starts, annotation.start) - 1, 0)
        if nothing_audible or any(_overlaps(annotation, *span) for span in spans[first : first + 2]):
            checked.append(annotation)
            continue
        if annotation.label is not None:
            outside.append(annotation)
        start = last if annotation.start < length + MIN_CLIP_SECONDS else 0.0
        checked.append(replace_fields(annotation, start=start, end=None, status=Status.UNCERTAIN))
    timed = [annotation for annotation in annotations if annotation.end is not None and annotation.label]
    hint = ""
    if outside == timed and all(
        annotation.start >= 2 * length and annotation.end <= 1000 * length for annotation in timed
    ):
        hint = "; are its times in milliseconds? Then say --column start_ms=NAME --column end_ms=NAME"
    for annotation in outside:
        to = "" if annotation.end is None else f" to {annotation.end:g}"
        result.problems.append(
            f"{annotation.where or annotation.path}: the label {annotation.label!r} from "
            f"{annotation.start:g}{to} s lies outside the "
            f"recording, of which there are clips until {length:g} s{hint}"
        )
    return checked


def _clip_statuses(
    annotations: list[Annotation],
    annotators: list[str],
    start: float,
    end: float,
    taxonomy: Taxonomy,
    asked: frozenset[str],
    result: ImportResult,
) -> dict[str, Statuses]:
    """Return the statuses of a clip by annotator, from the annotations that overlap it.

    `annotators` are all who labelled its recording.
    """
    by_annotator: dict[str, Statuses] = {}
    for annotator in annotators:
        overlapping = [annotation for annotation in annotations if annotation.annotator == annotator]
        unsure = {annotation.label for annotation in overlapping if annotation.status == Status.NOT_ASKED}
        statuses = dict.fromkeys(
            (label for label in taxonomy.labels if label in asked - unsure), Status.INFERRED_ABSENT
        )
        for annotation in overlapping:
            if annotation.label:
                labels = [annotation.label]
            else:
                labels = taxonomy.labels if annotation.status == Status.UNCERTAIN else []
            new = dict.fromkeys(labels, annotation.status)
            for label in find_contradictions(statuses, new):
                result.contradictions.append(
                    f"{annotation.where or annotation.path}: from {start:g} to {end:g} s {label!r} is "
                    "labelled as present and as explicitly absent; it is kept as present"
                )
            statuses = combine_statuses(statuses, new)
        by_annotator[annotator] = statuses
    return by_annotator


def _format_contradictions(clashes: Iterable[tuple[str, str, str]], sources: Mapping[str, str]) -> list[str]:
    """Return a line for each contradiction (clip, annotator, label)."""
    return [
        f"{sources.get(clip, '')}: clip {clip}{annotator and f', annotator {annotator}'}: {label!r} is "
        "present in one source and explicitly absent in another; it is kept as present"
        for clip, annotator, label in clashes
    ]


def _overlaps(annotation: Annotation, start: float, end: float) -> bool:
    """Return whether a clip contains `MIN_OVERLAP` seconds of an annotation, or half of a shorter one."""
    last = end if annotation.end is None else min(end, annotation.end)
    length = end - start if annotation.end is None else annotation.end - annotation.start
    overlap = last - max(start, annotation.start)
    return overlap >= min(MIN_OVERLAP, length / 2) - EPSILON and annotation.start < end


class _OverlapFinder:
    """Finds the annotations that overlap each clip of a recording, for clips in the order of their time."""

    def __init__(self, annotations: Iterable[Annotation]) -> None:
        by_start = sorted(enumerate(annotations), key=lambda item: item[1].start)
        self._waiting = deque(by_start)
        self._current: list[tuple[int, Annotation]] = []  # that have begun and not ended

    def find(self, start: float, end: float) -> list[Annotation]:
        """Return the annotations in their original order."""
        while self._waiting and self._waiting[0][1].start < end:
            self._current.append(self._waiting.popleft())
        self._current = [
            (position, annotation)
            for position, annotation in self._current
            if annotation.end is None or annotation.end >= start - EPSILON
        ]
        found = [item for item in self._current if _overlaps(item[1], start, end)]
        return [annotation for _, annotation in sorted(found, key=lambda item: item[0])]


def _assign_splits(
    new: list[dict[str, object]],
    statuses: ClipStatuses,
    clips: pd.DataFrame,
    taxonomy: Taxonomy,
    split: str | None,
    *,
    validate: float,
    seed: int,
) -> None:
    """Set the split of new clips: the source's, else that of the group's earlier clips, else `split`.

    If none of these is set, whole groups are split into train and validate.
    """
    split_of_group = dict(zip(clips["sensor_id"], clips["split"], strict=True))
    present_labels: dict[object, np.ndarray] = {}
    for (clip, _), of_clip in statuses.items():
        present = np.array([value == 1 for value in convert_to_presence(of_clip, taxonomy).values()])
        present_labels[clip] = present_labels.get(clip, np.zeros(len(present), bool)) | present
    counts: dict[str, np.ndarray] = {}
    for row in new:
        group = str(row["sensor_id"])
        row["split"] = row["split"] or split_of_group.get(group) or split or ""
        if not row["split"]:
            present = present_labels.get(row["audio_filename"], np.zeros(len(taxonomy.labels)))
            counts[group] = counts.get(group, np.zeros(len(taxonomy.labels))) + present
    group_splits = split_groups(counts, validate=validate, seed=seed)
    for row in new:
        row["split"] = row["split"] or group_splits[str(row["sensor_id"])]
