"""From what was said of recordings to labelled clips: cutting, naming, dealing to splits."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ust.annotations.taxonomy import Taxonomy
from ust.audio.clips import CLIP_SECONDS
from ust.audio.recordings import BadAudio, Lossless, explaining
from ust.audio.windows import windows
from ust.collection.collection import Collection
from ust.collection.formats.form import ABSENT, HEARD, UNSURE, Said
from ust.collection.names import Labels, slug
from ust.collection.splits import deal
from ust.files.digests import file_digest
from ust.files.names import printable
from ust.files.progress import Progress, silent

SHORTEST = 1.0  # seconds of the last clip of several
OVERLAP = 0.1  # seconds of a label in a clip, or all of it, for the clip to have it
DIGITS = 16  # of a recording's digest
LONGEST = 60  # letters of a recording's name in its clips'
Refuse = Callable[[np.ndarray, int], str | None]
Answers = dict[tuple[str, str], dict[str, int]]  # by clip and annotator


@dataclass
class Imported:
    """What an import came to.

    Attributes
    ----------
    clips, known : int
        New clips, and those that were there before.
    problems : list of str
        What could not be used, a line each.
    unreadable : list of str
        Recordings that could not be read, or not to the end, with the reason.
    warnings : list of str
        Incomplete recordings, of which what is there was used.
    """

    clips: int = 0
    known: int = 0
    problems: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def add(
    collection: Collection,
    said: Iterable[Said],
    root: Path,
    *,
    renamed: Mapping[str, str],
    split: str | None,
    validate: float,
    seed: int,
    only_labelled: bool = False,
    refuse: Refuse = lambda samples, rate: None,
    progress: Progress = silent,
) -> Imported:
    """Cut recordings into clips of ten seconds, label them, and put them into a collection.

    A clip has the labels that overlap it, and not the others; a coarse label whose fine one nobody named
    leaves those open. Recordings are only read. To be alone for (`Collection.alone`).

    Parameters
    ----------
    collection : Collection
    said : iterable of Said
    root : Path
        Folder that recordings are named relative to, where they are in it.
    renamed : mapping of str to str
        See `ust.collection.names.Labels`.
    split : str or None
        Of all new clips; None to deal them to train and validate, each group to one of them.
    validate, seed
        See `ust.collection.splits.deal`.
    only_labelled : bool
        Leave out clips of which nothing is heard.
    refuse : callable
        From a new clip's samples and their rate to why it is not to be kept, or None.
    progress : Progress
    """
    result, root = Imported(), root.resolve()
    labels = Labels(collection.taxonomy, renamed)
    by_recording = _by_recording(said, labels, result)
    clips = collection.clips()
    known = {
        (row.recording, row.start): name for name, row in zip(clips.index, clips.itertuples(), strict=True)
    }
    new: list[dict[str, object]] = []
    answers: Answers = {}
    taken = Counter(clips["sensor_id"])
    for path, some in progress(
        by_recording.items(), total=len(by_recording), description="cutting", unit="recording"
    ):
        source = printable(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name)
        try:
            with explaining(printable(path)):
                digest = file_digest(path)[:DIGITS]
            group = next((slug(each.group) for each in some if each.group), "") or _name(source, digest)
            for start, end, samples, rate in _cut(path, result.warnings.append):
                heard = _answers(some, start, end, collection.taxonomy)
                if only_labelled and not any(HEARD in each.values() for each in heard.values()):
                    continue
                name = known.get((digest, start))
                if name is None:
                    kept = Lossless.of(samples, rate)
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
                    kept.write(collection.audio(name))
                    own = next((each.split for each in some if each.split), "")
                    new.append(
                        {"audio_filename": name, "split": own, "sensor_id": group, "recording": digest,
                         "source": source, "start": start, "end": end,
                         "gain_db": kept.gain_db}
                    )  # fmt: skip
                else:
                    result.known += 1
                answers |= {(name, who): answer for who, answer in heard.items()}
        except BadAudio as error:
            result.unreadable.append(str(error))
    result.clips = len(new)
    _deal(new, answers, clips, collection.taxonomy, split, validate=validate, seed=seed)
    table = pd.DataFrame(new, columns=[clips.index.name, *clips.columns]).set_index("audio_filename")
    if new:
        collection.write_clips(pd.concat([clips, table]) if len(clips) else table)
    if answers:
        collection.say([(clip, who, answer) for (clip, who), answer in answers.items()])
    return result


def add_unlabelled(
    collection: Collection,
    recordings: Iterable[Path],
    root: Path,
    *,
    refuse: Refuse = lambda samples, rate: None,
    progress: Progress = silent,
) -> Imported:
    """Put recordings of which nothing is known yet into a collection, to be reviewed: clips of train."""
    said = [Said(path, None, answer=UNSURE) for path in recordings]
    return add(
        collection,
        said,
        root,
        renamed={},
        split="train",
        validate=0,
        seed=0,
        refuse=refuse,
        progress=progress,
    )


def _by_recording(said: Iterable[Said], labels: Labels, result: Imported) -> dict[Path, list[Said]]:
    """What can be used, with the taxonomy's labels; not recordings of which all labels are unknown."""
    found: dict[Path, list[Said]] = {}
    unknown: Counter[str] = Counter()
    for each in said:
        label = each.label and labels.of(each.label)
        if each.label and label is None:
            unknown[each.label] += 1
        else:
            found.setdefault(each.path.resolve(), []).append(each._replace(label=label or None))
    for text, count in unknown.items():
        result.problems.append(
            f"the label {text!r} ({count} times) is none of the classes; --map {text!r}=CLASS says which it "
            f"is, --map {text!r}= that it is none"
        )
    return dict(sorted(found.items()))


def _name(source: str, digest: str) -> str:
    """What belongs together where nothing is said of it: a recording, by its place."""
    name = slug(source.rsplit(".", 1)[0])
    return name if 0 < len(name) <= LONGEST else f"{name[:LONGEST]}-{digest[:8]}".lstrip("-")


def _cut(path: Path, warn: Callable[[str], object]) -> Iterable[tuple[float, float, np.ndarray, int]]:
    """Clips of a recording, mono; a rest of less than a second is left out."""
    for start, end, samples, rate in windows(path, window=CLIP_SECONDS, hop=CLIP_SECONDS, warn=warn):
        if start == 0 or end - start >= SHORTEST:
            yield start, end, samples, rate


def _answers(said: list[Said], start: float, end: float, taxonomy: Taxonomy) -> dict[str, dict[str, int]]:
    """By annotator, what was said of a clip, of all who said something of its recording."""
    found = {}
    for who in dict.fromkeys(each.annotator for each in said):
        own = [each for each in said if each.annotator == who]
        if all(each.label is None and each.answer == UNSURE for each in own):
            continue
        answer = dict.fromkeys(taxonomy.labels, ABSENT)
        # What was not heard, or left open, in so many words counts before what is only not named.
        for each in sorted(own, key=lambda each: each.answer == HEARD):
            if each.label is not None and _overlaps(each, start, end):
                answer[each.label] = each.answer
        found[who] = _consistent(answer, {each.label for each in own if each.answer != HEARD}, taxonomy)
    return found


def _overlaps(said: Said, start: float, end: float) -> bool:
    last = end if said.end is None else min(end, said.end)
    length = end - start if said.end is None else said.end - said.start
    return last - max(start, said.start) >= min(OVERLAP, length) - 1e-9 and said.start < end


def _consistent(answer: dict[str, int], explicit: set[str | None], taxonomy: Taxonomy) -> dict[str, int]:
    """A fine label heard says its group's; a group heard without any leaves open which it was."""
    for group, coarse in enumerate(taxonomy.coarse):
        members = [taxonomy.fine[index] for index in taxonomy.members(group)]
        if any(answer[member] == HEARD for member in members):
            answer[coarse] = HEARD
        elif answer[coarse] == HEARD:
            answer |= {member: UNSURE for member in members if member not in explicit}
    return answer


def _deal(
    new: list[dict[str, object]],
    answers: Answers,
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
        values = np.array([answer[label] == HEARD for label in taxonomy.labels])
        heard[clip] = heard.get(clip, np.zeros(len(values), bool)) | values
    counts: dict[str, np.ndarray] = {}
    for row in new:
        group = str(row["sensor_id"])
        row["split"] = row["split"] or there.get(group) or split or ""
        if not row["split"]:
            of_clip = heard.get(row["audio_filename"], np.zeros(len(taxonomy.labels)))
            counts[group] = counts.get(group, np.zeros(len(taxonomy.labels))) + of_clip
    dealt = deal(counts, validate=validate, seed=seed)
    for row in new:
        row["split"] = row["split"] or dealt[str(row["sensor_id"])]
