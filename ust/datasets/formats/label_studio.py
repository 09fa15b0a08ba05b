"""The JSON export of Label Studio: tasks, each with a recording and its annotations."""

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

# Types of results that are not labels, such as comments. They are listed as problems only.
NOTES = ("textarea", "rating", "number", "datetime", "pairwise", "ranker", "relation")
LOCAL_FILES = "/data/local-files/?d="


def read(path: Path, options: ImportOptions) -> ImportedLabels:
    """Read labelled regions, and choices for regions or recordings; annotators are email addresses or ids."""
    try:
        tasks = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise UserError(f"{path}: should be a list of tasks: Label Studio's export as JSON")
    if tasks and not any({"annotations", "completions"} & set(task) for task in tasks):
        raise UserError(f"{path}: its tasks have no annotations; export as JSON, not as JSON-MIN or CSV")
    imported, audio = ImportedLabels(), RecordingIndex(options.audio or path.parent)
    notes: Counter[str] = Counter()
    unlabelled: list[str] = []
    for number, task in enumerate(tasks, start=1):
        where = f"{path}: task {task.get('id', number)}"
        names = _possible_names(task)
        if not names:
            imported.problems.append(f"{where}: has no recording in its data")
            continue
        recording = _find_recording(audio, names)
        annotations = task.get("annotations", task.get("completions"))  # the latter in exports before 1.0
        annotations = annotations if isinstance(annotations, list) else []
        if not annotations:
            unlabelled.append(where)
        for annotation in annotations:
            try:
                _read_annotation(recording, annotation, where, imported, notes)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problem = f"an annotation is not as Label Studio writes it ({error!r})"
                imported.add(where, recording, "", problem=problem)
    if unlabelled:
        predicted = any(task.get("predictions") for task in tasks)
        hint = "; predictions of a model are not imported as labels" if predicted else ""
        imported.problems.append(f"{unlabelled[0]}: has no annotations ({len(unlabelled)} such tasks){hint}")
    imported.problems += [
        f"{path}: {count} result(s) of the type {kind!r} are not labels and are ignored"
        for kind, count in notes.items()
    ]
    return imported


def _read_annotation(
    recording: Path | MissingRecording,
    annotation: dict[str, Any],
    where: str,
    imported: ImportedLabels,
    notes: Counter[str],
) -> None:
    """Add the results of one annotator for one recording."""
    if annotation.get("was_cancelled"):
        return
    user = annotation.get("completed_by", "")
    annotator = str(user.get("email") or user.get("id") or "") if isinstance(user, dict) else str(user)
    results = annotation["result"]
    if not results:
        imported.add(where, recording, None, annotator=annotator)
    # Results of a region share its id; only some of them repeat its times.
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
            imported.add(where, recording, label, times, annotator=annotator)
        if labels or (result.get("id") in labelled and result.get("id") is not None):
            continue
        if kind in NOTES:
            notes[kind] += 1
        else:
            timed = region is not None and not isinstance(times, str)
            place = f" from {times[0]:g} to {times[1]:g} s" if timed else ""
            problem = f"a result of the type {kind!r}{place} has no known kind of label"
            imported.add(where, recording, "", times, problem=problem, annotator=annotator)


def _labels(result: dict[str, Any]) -> list[str]:
    """Return the labels of a result; a taxonomy path becomes "market: voices"."""
    value = result.get("value", {})
    plain = [str(label) for kind in ("labels", "choices") for label in value.get(kind, ())]
    return plain + [": ".join(map(str, path)) for path in value.get("taxonomy", ())]


def _find_recording(audio: RecordingIndex, names: list[str]) -> Path | MissingRecording:
    """Return the first recording with one of several possible names."""
    results = [audio.find(name) for name in names]
    # Uploaded files have a prefix: 1a2b3c4d-street.wav.
    plain = [name.rsplit("/", 1)[-1] for name in names]
    results += [audio.find(name.split("-", 1)[1]) for name in plain if "-" in name]
    return next((result for result in results if isinstance(result, Path)), results[0])


def _possible_names(task: dict[str, Any]) -> list[str]:
    """Return the possible file names of a task's recording, from its URL, path or upload."""
    data = task.get("data")
    for value in [*(data.values() if isinstance(data, dict) else ()), task.get("file_upload")]:
        if not isinstance(value, str):
            continue
        _, local, value = value.rpartition(LOCAL_FILES)
        # Cut off a query or fragment, but also try the uncut name: "take #2.wav".
        ends = [value.split("&")[0]] if local else [value.split("?")[0].split("#")[0], value.split("?")[0]]
        for end in [*ends, value]:
            names = [unquote(end), end]  # "+" is a space only in form data, not in URLs
            if is_audio(names[0]):
                return list(dict.fromkeys(names))
    return []


FORMAT = LabelFormat("Label Studio's JSON export", lambda path: path.suffix.lower() == ".json", read)
