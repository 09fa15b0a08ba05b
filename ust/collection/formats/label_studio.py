"""The JSON export of Label Studio: tasks, each with a recording and what annotators said of it."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ust.audio.suffixes import is_audio
from ust.collection.formats.form import Form, Options, Read, Recordings, Said
from ust.files.errors import UserError


def read(path: Path, options: Options) -> Read:
    """Regions with labels, and choices for a whole recording; annotators by their address or number."""
    try:
        tasks = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise UserError(f"{path}: should be a list of tasks: Label Studio's export as JSON")
    if tasks and not any("annotations" in task for task in tasks):
        raise UserError(f"{path}: its tasks have no annotations; export as JSON, not as JSON-MIN or CSV")
    found, audio = Read(), Recordings(options.audio or path.parent)
    for number, task in enumerate(tasks, start=1):
        where = f"{path}: task {task.get('id', number)}"
        name = _name(task)
        if name is None:
            found.problems.append(f"{where}: its data name no recording")
            continue
        recording = audio.find(name)
        if isinstance(recording, str) and "-" in name:  # what was uploaded has a prefix: 1a2b3c4d-street.wav
            plain = audio.find(name.split("-", 1)[1])
            recording = plain if isinstance(plain, Path) else recording
        if isinstance(recording, str):
            found.problems.append(f"{where}: {recording}")
            continue
        annotations = task.get("annotations")
        for annotation in annotations if isinstance(annotations, list) else ():
            try:
                _annotation(recording, annotation, where, found)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                found.problems.append(f"{where}: an annotation is not as Label Studio writes it ({error!r})")
    return found


def _annotation(recording: Path, annotation: dict[str, Any], where: str, found: Read) -> None:
    if annotation.get("was_cancelled"):
        return
    who = annotation.get("completed_by", "")
    who = str(who.get("email") or who.get("id") or "") if isinstance(who, dict) else str(who)
    said = []
    for result in annotation["result"]:
        value = result["value"]
        if "choices" in value:
            said += [Said(recording, str(choice), annotator=who) for choice in value["choices"]]
        elif "labels" in value:
            start, end = float(value["start"]), float(value["end"])
            if not 0 <= start <= end < 1e9:
                found.problems.append(f"{where}: from {start} to {end} is no stretch of time")
                continue
            said += [Said(recording, str(label), start, end, annotator=who) for label in value["labels"]]
    found.said += said or ([] if annotation["result"] else [Said(recording, None, annotator=who)])


def _name(task: dict[str, Any]) -> str | None:
    """The file's name in what a task says of its recording: an address, a path or an upload."""
    data = task.get("data")
    for value in [*(data.values() if isinstance(data, dict) else ()), task.get("file_upload")]:
        if not isinstance(value, str):
            continue
        parts = urlsplit(value)
        local = parse_qs(parts.query).get("d", [""])[0]  # /data/local-files/?d=folder/street.wav
        name = unquote((local or parts.path).rsplit("/", 1)[-1])
        if is_audio(name):
            return name
    return None


FORM = Form("Label Studio's JSON export", lambda path: path.suffix.lower() == ".json", read)
