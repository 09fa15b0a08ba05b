"""The JSON export of Label Studio: tasks, each with a recording and what annotators said of it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ust.audio.suffixes import is_audio
from ust.datasets.formats.base import (
    WHOLE_RECORDING,
    ImportedLabels,
    ImportOptions,
    LabelFormat,
    MissingRecording,
    RecordingIndex,
    parse_interval,
)
from ust.util.errors import UserError

# Results that are no labels of a sound, such as comments: they are listed and put nothing in doubt.
NOTES = ("textarea", "rating", "number", "datetime", "pairwise", "ranker", "relation")
LOCAL_FILES = "/data/local-files/?d="


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read regions with labels, and choices of regions or recordings; annotators by address or number."""
    try:
        tasks = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise UserError(f"{path}: should be a list of tasks: Label Studio's export as JSON")
    if tasks and not any({"annotations", "completions"} & set(task) for task in tasks):
        raise UserError(f"{path}: its tasks have no annotations; export as JSON, not as JSON-MIN or CSV")
    found, audio, notes, without = (
        ImportedLabels(),
        RecordingIndex(options.audio or path.parent),
        Counter(),
        [],
    )
    for number, task in enumerate(tasks, start=1):
        where = f"{path}: task {task.get('id', number)}"
        names = _names(task)
        if not names:
            found.problems.append(f"{where}: its data name no recording")
            continue
        recording = _find(audio, names)
        annotations = task.get("annotations", task.get("completions"))  # the latter in exports before 1.0
        annotations = annotations if isinstance(annotations, list) else []
        if not annotations:
            without.append(where)
        for annotation in annotations:
            try:
                _read_annotation(recording, annotation, where, found, notes)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problem = f"an annotation is not as Label Studio writes it ({error!r})"
                found.add(where, recording, "", problem=problem)
    if without:
        predicted = any(task.get("predictions") for task in tasks)
        hint = "; what a model predicted is not taken for labels" if predicted else ""
        found.problems.append(f"{without[0]}: has no annotations ({len(without)} such tasks){hint}")
    found.problems += [
        f"{path}: {count} result(s) of the type {kind!r} are no labels, and are not used"
        for kind, count in notes.items()
    ]
    return found


def _read_annotation(
    recording: Path | MissingRecording,
    annotation: dict[str, Any],
    where: str,
    found: ImportedLabels,
    notes: Counter[str],
) -> None:
    """Add what one annotator said of one recording."""
    if annotation.get("was_cancelled"):
        return
    who = annotation.get("completed_by", "")
    who = str(who.get("email") or who.get("id") or "") if isinstance(who, dict) else str(who)
    results = annotation["result"]
    if not results:
        found.add(where, recording, None, annotator=who)
    # Results of one region have its number, and not all of them repeat its times.
    regions = {
        result["id"]: result["value"]
        for result in results
        if "id" in result and {"start", "end"} <= set(result.get("value", ()))
    }
    labelled = {result.get("id") for result in results if _labels(result)}
    for result in results:
        value, labels = result.get("value", {}), _labels(result)
        region = value if {"start", "end"} & set(value) else regions.get(result.get("id"))
        times = (
            WHOLE_RECORDING
            if region is None
            else parse_interval(str(region.get("start")), str(region.get("end")))
        )
        kind = str(result.get("type", "unknown"))
        if region is None and "labels" in value:
            times = "a region has no times"
        for label in labels:
            found.add(where, recording, label, times, annotator=who)
        if labels or (result.get("id") in labelled and result.get("id") is not None):
            continue
        if kind in NOTES:
            notes[kind] += 1
        else:
            timed = region is not None and not isinstance(times, str)
            place = f" from {times[0]:g} to {times[1]:g} s" if timed else ""
            problem = f"a result of the type {kind!r}{place} has no label that is understood"
            found.add(where, recording, "", times, problem=problem, annotator=who)


def _labels(result: dict[str, Any]) -> list[str]:
    """Return the labels of a result; a path of a taxonomy is "market: voices"."""
    value = result.get("value", {})
    plain = [str(label) for kind in ("labels", "choices") for label in value.get(kind, ())]
    return plain + [": ".join(map(str, path)) for path in value.get("taxonomy", ())]


def _find(audio: RecordingIndex, names: list[str]) -> Path | MissingRecording:
    """Return the first recording that one of several spellings names."""
    found = [audio.find(name) for name in names]
    # What was uploaded has a prefix: 1a2b3c4d-street.wav.
    plain = [name.rsplit("/", 1)[-1] for name in names]
    found += [audio.find(name.split("-", 1)[1]) for name in plain if "-" in name]
    return next((place for place in found if isinstance(place, Path)), found[0])


def _names(task: dict[str, Any]) -> list[str]:
    """Return the spellings of the recording's name in a task: an address, a path or an upload."""
    data = task.get("data")
    for value in [*(data.values() if isinstance(data, dict) else ()), task.get("file_upload")]:
        if not isinstance(value, str):
            continue
        _, local, value = value.rpartition(LOCAL_FILES)
        # A query or fragment is cut off, unless the name ends there: "take #2.wav".
        ends = [value.split("&")[0]] if local else [value.split("?")[0].split("#")[0], value.split("?")[0]]
        for end in [*ends, value]:
            names = [unquote(end), end]  # "+" stays: it is a space only in what a form sends
            if is_audio(names[0]):
                return list(dict.fromkeys(names))
    return []


FORMAT = LabelFormat("Label Studio's JSON export", lambda path: path.suffix.lower() == ".json", read)
