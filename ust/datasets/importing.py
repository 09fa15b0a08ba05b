"""Classes in people's own words, and the labels of a taxonomy that they are."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ust.annotations.taxonomy import Taxonomy
from ust.audio.recordings import CLIP_SECONDS, BadAudio, FlacSamples, explain_read_errors, read_windows
from ust.datasets.collection import Collection
from ust.datasets.formats.base import IN_DOUBT, PRESENT, UNKNOWN, Annotation
from ust.datasets.presence import NOT_NAMED, Statuses, combine_statuses, contradictions, presence_values
from ust.util.digests import file_digest
from ust.util.errors import UserError
from ust.util.names import nfc, printable
from ust.util.progress import Progress, silent
from ust.util.seeding import random_stream

MAX_CLASSES = 1000  # classes


def slug(text: str) -> str:
    """Return a name as labels have it.

    Examples
    --------
    >>> slug(" Church bell (big)")
    'church-bell-big'
    """
    return re.sub(r"[\W_]+", "-", nfc(text).strip().lower()).strip("-")


def taxonomy_from_classes(classes: Iterable[str]) -> dict[str, Any]:
    """Return a taxonomy in the layout of ``dcase-ust-taxonomy.yaml``, of classes such as "market: voices".

    A coarse class may stand before or after its fine ones, or be implied by them.

    Raises
    ------
    UserError
        If there are none, or one has no letters, stands twice or has three levels.

    Examples
    --------
    >>> taxonomy_of(["tram", "market: voices", "market: cart"])
    {'coarse': {1: 'tram', 2: 'market'}, 'fine': {2: {1: 'voices', 2: 'cart'}}}
    """
    groups: dict[str, list[str]] = {}
    seen: set[tuple[str, ...]] = set()
    for text in classes:
        parts = [slug(part) for part in text.split(":")]
        if len(parts) > 2 or not all(parts):
            raise UserError(f"the class {text!r} should be a name, or two with a colon: 'market: voices'")
        if tuple(parts) in seen:
            raise UserError(f"the class {text!r} is there twice")
        seen.add(tuple(parts))
        coarse, *fine = parts
        groups[coarse] = [*groups.get(coarse, []), *fine]
    if not groups or sum(map(len, groups.values())) + len(groups) > MAX_CLASSES:
        raise UserError(f"there should be at least one class, and at most {MAX_CLASSES}")
    numbered = list(enumerate(groups.items(), start=1))
    fine = {number: dict(enumerate(members, start=1)) for number, (_, members) in numbered if members}
    return {"coarse": {number: name for number, (name, _) in numbered}} | ({"fine": fine} if fine else {})


class LabelResolver:
    """The label that is meant by a class in somebody's words.

    Parameters
    ----------
    taxonomy : Taxonomy
    renamed : mapping of str to str
        Classes by other names that they have in the source; "" for what is none of them.
    """

    def __init__(self, taxonomy: Taxonomy, renamed: Mapping[str, str]) -> None:
        self._meant: dict[str, list[str]] = {}
        for group, coarse in enumerate(taxonomy.coarse):
            self._add(coarse, taxonomy.coarse_name(group), coarse)
            for index in taxonomy.members(group):
                label = taxonomy.fine[index]
                name = label.split("_", 1)[1]
                for text in (name, f"{taxonomy.coarse_name(group)}: {name}", label):
                    self._add(label, text, text)
        self._renamed = {}
        for old, new in renamed.items():
            self._renamed[slug(old)] = self._find(new) if new.strip() else ""
        if unknown := [new for new in renamed.values() if new.strip() and self._find(new) is None]:
            raise UserError(
                f"--map: there is no class {unknown[0]!r}; there are {', '.join(taxonomy.labels)}"
            )

    def _add(self, label: str, *texts: str) -> None:
        for text in {slug(text) for text in texts}:
            self._meant.setdefault(text, []).append(label)

    def _find(self, text: str) -> str | None:
        """The label; where a coarse and a fine one have the same name, the fine one, which says both."""
        found = dict.fromkeys(self._meant.get(slug(text), []))
        fine = [label for label in found if "-" in label.split("_", 1)[0]]
        candidates = fine or list(found)
        return candidates[0] if len(candidates) == 1 else None

    def resolve(self, text: str) -> str | None:
        """The label of a class; "" if it is to be taken for none of them, None if it is not known."""
        renamed = self._renamed.get(slug(text))
        return self._find(text) if renamed is None else renamed


def split_groups(counts: Mapping[str, np.ndarray], *, validate: float, seed: int) -> dict[str, str]:
    """A split for each group of clips, so that validate has about its share of the clips of every class.

    The groups with the rarest classes are dealt first, each to the split that wants its classes most.

    Parameters
    ----------
    counts : mapping of str to numpy.ndarray [shape=(classes,)]
        By group, the clips of each class.
    validate : float
        The share.
    seed : int
        Of the order of equal groups.

    References
    ----------
    Sechidis, Tsoumakas & Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011; of groups.
    """
    names = sorted(counts)
    if not names or validate == 0:
        return dict.fromkeys(names, "train")
    table = np.stack([counts[name] for name in names]).astype(np.float64)
    total = table.sum(axis=0)
    left = {"train": (1 - validate) * total, "validate": validate * total}
    shuffled = random_stream(seed, "deal").permutation(len(names))
    # By its rarest class: what a group without any class is dealt by is as good as common.
    rarest = [min((total[k] for k in np.flatnonzero(row)), default=np.inf) for row in table]
    order = sorted(shuffled, key=lambda index: (rarest[index], -table[index].sum()))
    found, dealt = {}, {"train": 0.0, "validate": 0.0}
    shares = {"train": 1 - validate, "validate": validate}
    for index in order:
        row = table[index]
        classes = np.flatnonzero(row)
        if len(classes):
            rare = classes[np.argmin(total[classes])]
            # What is missing of the class, after this group, relative to what the split wants of it.
            need = {split: left[split][rare] / max(shares[split], 1e-9) for split in left}
        else:
            need = {split: -dealt[split] / max(shares[split], 1e-9) for split in left}
        split = max(need, key=lambda name: (need[name], shares[name]))
        left[split] = left[split] - row
        dealt[split] += 1
        found[names[index]] = split
    return found


MIN_CLIP_SECONDS = 1.0  # seconds of the last clip of several
MIN_OVERLAP = 0.1  # seconds of a label in a clip, or half of it, for the clip to have it
DIGEST_DIGITS = 16  # of a recording's digest
MAX_NAME_LENGTH = 60  # letters of a recording's name in its clips'
RejectClip = Callable[[np.ndarray, int], str | None]
ClipStatuses = dict[tuple[str, str], Statuses]  # by clip and annotator


@dataclass
class ImportResult:
    """What an import came to.

    Attributes
    ----------
    clips, known : int
        New clips, and those that were there before.
    problems : list of str
        What could not be used, a line each.
    contradictions : list of str
        Labels that are present in one source and explicitly absent in another, a line each.
    unreadable : list of str
        Recordings that could not be read, or not to the end, with the reason.
    warnings : list of str
        Incomplete recordings, of which what is there was used.
    """

    clips: int = 0
    known: int = 0
    problems: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def import_recordings(
    collection: Collection,
    said: Iterable[Annotation],
    root: Path,
    *,
    renamed: Mapping[str, str],
    split: str | None,
    validate: float,
    seed: int,
    only_labelled: bool = False,
    asked: Iterable[str] | None = None,
    source_name: str = "",
    replace_answers: bool = False,
    unlabelled: bool = False,
    refuse: RejectClip = lambda samples, rate: None,
    progress: Progress = silent,
) -> ImportResult:
    """Cut recordings into clips of ten seconds, label them, and put them into a collection.

    A clip has the labels that overlap it, besides those that the same annotator gave it before. Classes that
    an annotator does not name are absent (0) from the clips of a recording that the annotator labels, if
    `asked`; a coarse label without a fine one leaves those open (-1). A label that cannot be placed is
    listed, and leaves its class open where it may belong (`ust.datasets.presence`). A recording of which
    no label's class is known is left out. Recordings are only read. The caller holds the lock
    (`Collection.alone`).

    Parameters
    ----------
    collection : Collection
    said : iterable of Said
    root : Path
        Folder that recordings are named relative to, where they are in it.
    renamed : mapping of str to str
        See `ust.datasets.importing.LabelResolver`.
    split : str or None
        Of all new clips; None to deal them to train and validate, each group to one of them.
    validate, seed
        See `ust.datasets.importing.split_groups`.
    only_labelled : bool
        Leave out clips of which nothing is heard.
    asked : iterable of str, optional
        Classes that the recordings were labelled for; by default all. The others are -1 where not named.
    source_name : str
        Where the labels come from; see `Collection.merge`.
    replace_answers : bool
        Put the labels in the place of those that the same annotators gave the clips before.
    unlabelled : bool
        Keep the clips of recordings of which nothing is known.
    refuse : callable
        From a new clip's samples and their rate to why it is not to be kept, or None.
    progress : Progress
    """
    result, root = ImportResult(), root.resolve()
    labels = LabelResolver(collection.taxonomy, renamed)
    by_recording = _by_recording(said, labels, result, unlabelled=unlabelled)
    asked = _asked(asked, labels, collection.taxonomy)
    clips = collection.clips()
    known = {
        (row.recording, row.start): name for name, row in zip(clips.index, clips.itertuples(), strict=True)
    }
    new: list[dict[str, object]] = []
    answers: ClipStatuses = {}
    taken = Counter(clips["sensor_id"])
    for path, some in progress(
        by_recording.items(), total=len(by_recording), description="cutting", unit="recording"
    ):
        spans: list[tuple[float, float]] = []
        placed: list[tuple[str, float, float]] = []
        source = printable(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name)
        try:
            with explain_read_errors(printable(path)):
                digest = file_digest(path)[:DIGEST_DIGITS]
            group = next((slug(each.group) for each in some if each.group), "") or _name(source, digest)
            for start, end, samples, rate in _cut(path, result.warnings.append):
                spans.append((start, end))
                if only_labelled and not any(
                    each.status == PRESENT and each.label and _overlaps(each, start, end) for each in some
                ):
                    continue
                name = known.get((digest, start))
                if name is None:
                    kept = FlacSamples.from_samples(samples, rate)
                    if not kept.values.any():
                        result.problems.append(
                            f"{printable(path)}: is silent from second {start:g}: every sample is 0"
                        )
                        continue
                    if (reason := refuse(samples, rate)) is not None:
                        result.problems.append(
                            f"{printable(path)}: from second {start:g} is not kept: {reason}"
                        )
                        continue
                    name = f"{group}_{taken[group]:05}.flac"
                    taken[group] += 1
                    known[digest, start] = name
                    kept.write(collection.clip_path(name))
                    own = next((each.split for each in some if each.split), "")
                    new.append(
                        {"audio_filename": name, "split": own, "sensor_id": group, "recording": digest,
                         "source": source, "start": start, "end": end,
                         "gain_db": kept.gain_db}
                    )  # fmt: skip
                else:
                    result.known += 1
                placed.append((name, start, end))
        except BadAudio as error:
            result.unreadable.append(str(error))
        some = _doubt_outside(some, spans, result)
        for name, start, end in placed:
            for who, answer in _answers(some, start, end, collection.taxonomy, asked, result).items():
                before = answers.get((name, who), {})
                result.contradictions += _listed(
                    [(name, who, label) for label in contradictions(before, answer)], {name: source}
                )
                answers[name, who] = combine_statuses(before, answer)
    result.clips = len(new)
    _deal(new, answers, clips, collection.taxonomy, split, validate=validate, seed=seed)
    table = pd.DataFrame(new, columns=[clips.index.name, *clips.columns]).set_index("audio_filename")
    if new:
        collection.write_clips(pd.concat([clips, table]) if len(clips) else table)
    if answers:
        found = collection.merge(answers, source=source_name, replace=replace_answers)
        result.contradictions += _listed(found, collection.clips()["source"].to_dict())
    return result


def import_unlabelled(
    collection: Collection,
    recordings: Iterable[Path],
    root: Path,
    *,
    refuse: RejectClip = lambda samples, rate: None,
    progress: Progress = silent,
) -> ImportResult:
    """Put recordings of which nothing is known yet into a collection, to be reviewed: clips of train."""
    said = [Annotation(path, None, status=UNKNOWN) for path in recordings]
    return import_recordings(
        collection,
        said,
        root,
        renamed={},
        split="train",
        validate=0,
        seed=0,
        unlabelled=True,
        refuse=refuse,
        progress=progress,
    )


def _by_recording(
    said: Iterable[Annotation], labels: LabelResolver, result: ImportResult, *, unlabelled: bool
) -> dict[Path, list[Annotation]]:
    """Return what is said of each recording, with the taxonomy's labels, and list those that are unknown.

    A label that is unknown may be any class; one that is mapped to none is nothing heard. Recordings of
    which no class is known are left out, unless they are to come `unlabelled`.
    """
    found: dict[Path, list[Annotation]] = {}
    unknown: dict[str, list[str]] = {}
    for each in said:
        label = labels.resolve(each.label) if each.label else None
        if each.label and label is None:
            unknown.setdefault(each.label, []).append(each.where)
            # An unknown class that is absent is none of the others.
            doubtful = each.status in (PRESENT, IN_DOUBT)
            each = replace(each, label=None, status=IN_DOUBT if doubtful else UNKNOWN)
        elif each.label and not label:
            each = replace(each, label=None, status=PRESENT)
        else:
            each = replace(each, label=label)
        found.setdefault(each.path.resolve(), []).append(each)
    for text, places in unknown.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        where = f"{places[0]}{more}: " if places[0] else ""
        result.problems.append(
            f"{where}the label {text!r} ({len(places)} times) is none of the classes; --map {text!r}=CLASS "
            f"says which it is, --map {text!r}= that it is none"
        )
    return {path: some for path, some in sorted(found.items()) if unlabelled or any(map(_knows, some))}


def _knows(said: Annotation) -> bool:
    """Return whether a line shows that its annotator labelled this recording for the classes."""
    return said.certain and (said.label is not None or said.status == PRESENT)


def _asked(asked: Iterable[str] | None, labels: LabelResolver, taxonomy: Taxonomy) -> frozenset[str]:
    """Return the labels that were asked for; with a coarse class its fine ones."""
    if asked is None:
        return frozenset(taxonomy.labels)
    found = set()
    for text in asked:
        label = labels.resolve(text)
        if not label:
            raise UserError(f"--asked: there is no class {text!r}; there are {', '.join(taxonomy.labels)}")
        found.add(label)
        if label in taxonomy.coarse:
            found |= {taxonomy.fine[index] for index in taxonomy.members(taxonomy.coarse.index(label))}
    return frozenset(found)


def _name(source: str, digest: str) -> str:
    """What belongs together where nothing is said of it: a recording, by its place."""
    name = slug(source.rsplit(".", 1)[0])
    return name if 0 < len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}-{digest[:8]}".lstrip("-")


def _cut(path: Path, warn: Callable[[str], object]) -> Iterable[tuple[float, float, np.ndarray, int]]:
    """Clips of a recording, mono; a rest of less than a second is left out."""
    for start, end, samples, rate in read_windows(path, window=CLIP_SECONDS, hop=CLIP_SECONDS, warn=warn):
        if start == 0 or end - start >= MIN_CLIP_SECONDS:
            yield start, end, samples, rate


def _doubt_outside(
    said: list[Annotation], spans: list[tuple[float, float]], result: ImportResult
) -> list[Annotation]:
    """List labels that no clip of a recording overlaps; the class is in doubt in all of its clips.

    A label that begins within a second of the last clip's end puts only that clip in doubt: it may lie in
    the rest of which no clip is made.
    """
    if not spans:
        return said
    last, length = spans[-1]
    found, outside = [], []
    for each in said:
        if any(_overlaps(each, *span) for span in spans) or (each.label is None and each.status == PRESENT):
            found.append(each)
            continue
        if each.label is not None:
            outside.append(each)
        start = last if each.start < length + MIN_CLIP_SECONDS else 0.0
        found.append(replace(each, start=start, end=None, status=IN_DOUBT))
    timed = [each for each in said if each.end is not None and each.label is not None]
    hint = ""
    if outside == timed and all(each.start >= 2 * length and each.end <= 1000 * length for each in timed):
        hint = "; are its times in milliseconds? Then say --column start_ms=NAME --column end_ms=NAME"
    for each in outside:
        to = "" if each.end is None else f" to {each.end:g}"
        result.problems.append(
            f"{each.where or each.path}: the label {each.label!r} from {each.start:g}{to} s lies outside the "
            f"recording, of which there are clips until {length:g} s{hint}"
        )
    return found


def _answers(
    said: list[Annotation],
    start: float,
    end: float,
    taxonomy: Taxonomy,
    asked: frozenset[str],
    result: ImportResult,
) -> dict[str, Statuses]:
    """Return, by annotator, the answer for a clip, of all who labelled its recording."""
    found: dict[str, Statuses] = {}
    for who in dict.fromkeys(each.annotator for each in said if _knows(each)):
        here = [each for each in said if each.annotator == who and _overlaps(each, start, end)]
        unsure = {each.label for each in here if each.status == UNKNOWN}
        answer = dict.fromkeys((label for label in taxonomy.labels if label in asked - unsure), NOT_NAMED)
        for each in here:
            labels = [each.label] if each.label else taxonomy.labels if each.status == IN_DOUBT else []
            new = dict.fromkeys(labels, each.status)
            for label in contradictions(answer, new):
                result.contradictions.append(
                    f"{each.where or each.path}: from {start:g} to {end:g} s {label!r} is said to be present "
                    "and explicitly absent; it is kept as present"
                )
            answer = combine_statuses(answer, new)
        found[who] = answer
    return found


def _listed(clashes: Iterable[tuple[str, str, str]], sources: Mapping[str, str]) -> list[str]:
    """Return a line for each contradiction of clip, annotator and label."""
    return [
        f"{sources.get(clip, '')}: clip {clip}{who and f', annotator {who}'}: {label!r} is present in one "
        "source and explicitly absent in another; it is kept as present"
        for clip, who, label in clashes
    ]


def _overlaps(said: Annotation, start: float, end: float) -> bool:
    """Return whether a label is in a clip: `MIN_OVERLAP` seconds of it, or half of a shorter one."""
    last = end if said.end is None else min(end, said.end)
    length = end - start if said.end is None else said.end - said.start
    return last - max(start, said.start) >= min(MIN_OVERLAP, length / 2) - 1e-9 and said.start < end


def _deal(
    new: list[dict[str, object]],
    answers: ClipStatuses,
    clips: pd.DataFrame,
    taxonomy: Taxonomy,
    split: str | None,
    *,
    validate: float,
    seed: int,
) -> None:
    """Set the split of new clips: the source's, that of the group's clips before, the one that is asked."""
    there = dict(zip(clips["sensor_id"], clips["split"], strict=True))
    heard: dict[object, np.ndarray] = {}
    for (clip, _), answer in answers.items():
        present = np.array([value == 1 for value in presence_values(answer, taxonomy).values()])
        heard[clip] = heard.get(clip, np.zeros(len(present), bool)) | present
    counts: dict[str, np.ndarray] = {}
    for row in new:
        group = str(row["sensor_id"])
        row["split"] = row["split"] or there.get(group) or split or ""
        if not row["split"]:
            of_clip = heard.get(row["audio_filename"], np.zeros(len(taxonomy.labels)))
            counts[group] = counts.get(group, np.zeros(len(taxonomy.labels))) + of_clip
    dealt = split_groups(counts, validate=validate, seed=seed)
    for row in new:
        row["split"] = row["split"] or dealt[str(row["sensor_id"])]
