"""The data source ``local``: check a folder in the SONYC-UST layout and link its clips."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from ust.annotations.annotations import FROM_FINE, CoarseMode, read_annotations
from ust.annotations.taxonomy import read_taxonomy
from ust.audio.recordings import BadAudio, read_recording
from ust.audio.suffixes import list_recordings
from ust.datasets.source import ANNOTATIONS, AUDIO, TAXONOMY, FetchContext, Source, Summary
from ust.util.errors import UserError, bullet_list, shorten
from ust.util.names import nfc, printable
from ust.util.progress import Progress, silent
from ust.util.tables import read_csv, write_csv


def link_dataset(
    root: Path,
    target: Path,
    *,
    audio_roots: Iterable[Path] | None = None,
    coarse: CoarseMode = FROM_FINE,
    skip_bad: bool,
    progress: Progress = silent,
) -> Summary:
    """Link the files of a data set into another folder, without copying them.

    Every annotated clip is decoded once to check it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; data.path should name the folder with {ANNOTATIONS}")
    if missing := [name for name in (ANNOTATIONS, TAXONOMY) if not (root / name).is_file()]:
        raise UserError(
            f"{root}: has no {' and no '.join(missing)}; data.path should have {ANNOTATIONS}, {TAXONOMY} and "
            "the recordings. For recordings in folders of their classes, set data.source to folder; to tag "
            "recordings without labels, run ust tag"
        )
    taxonomy = read_taxonomy(root / TAXONOMY)
    annotations = read_annotations(root / ANNOTATIONS, taxonomy, coarse)
    splits = annotations.groupby("audio_filename")["split"].first()
    index = _index_by_stem(audio_roots or [root], splits.index)
    paths: dict[str, Path] = {}
    problems: dict[str, str] = {}
    for name, split in splits.items():
        candidates = _find_candidates(index, name, split)
        if len(candidates) > 1:
            files = shorten([printable(path) for path in candidates])
            problems[name] = f"{name}: may be {files}; keep one of them"
        paths[name] = candidates[0] if candidates else root / name

    unambiguous = {name: path for name, path in paths.items() if name not in problems}
    reasons, conversions, incomplete = _check_clips(unambiguous, progress)
    problems |= reasons
    if problems and not skip_bad:
        lines = bullet_list(list(problems.values()), limit=10_000)
        raise UserError(
            f"{len(problems)} of {len(paths)} audio files cannot be used; to go on without them and their "
            f"annotations, set data.on_bad_audio to skip:\n{lines}"
        )
    if len(problems) == len(paths):
        raise UserError(f"{root}: no audio file can be used:\n{bullet_list(list(problems.values()))}")
    splits = splits.drop(list(problems))
    for name, split in splits.items():
        link = target / AUDIO / split / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(paths[name].resolve())
    (target / TAXONOMY).symlink_to((root / TAXONOMY).resolve())
    if problems:
        _write_without(root / ANNOTATIONS, target / ANNOTATIONS, set(problems))
    else:
        (target / ANNOTATIONS).symlink_to((root / ANNOTATIONS).resolve())
    counts = splits.value_counts().sort_index()
    return Summary(counts.to_dict(), dict(sorted(conversions.items())), tuple(problems.values()), incomplete)


def _index_by_stem(roots: Iterable[Path], names: Iterable[str]) -> dict[str, list[Path]]:
    """Return the audio files below some folders by stem (in NFC), for the stems of `names`."""
    stems = {nfc(Path(name).stem) for name in names}
    index: dict[str, list[Path]] = {}
    for root in roots:
        for path in list_recordings(root):
            if (stem := nfc(path.stem)) in stems:
                index.setdefault(stem, []).append(path)
    return index


def _find_candidates(index: dict[str, list[Path]], name: str, split: str) -> list[Path]:
    """Return the files that may belong to a clip; there should be exactly one.

    A file with the clip's name in a folder with the split's name is preferred. Next are files with either,
    then files with the same stem in another format. A file that several links point to counts once.
    """
    files = list({path.resolve(): path for path in index.get(nfc(Path(name).stem), [])}.values())
    named = [path for path in files if nfc(path.name) == nfc(name)]
    placed = [path for path in files if path.parent.name == split]
    both = [path for path in named if path in placed]
    return both or list(dict.fromkeys(named + placed)) or files


def _check_clips(
    paths: dict[str, Path], progress: Progress
) -> tuple[dict[str, str], Counter, tuple[str, ...]]:
    """Decode all clips; return the problems by clip, the counts of conversions, and the incomplete files."""
    checks = Parallel(n_jobs=-1, return_as="generator", batch_size=8)(
        delayed(_check_clip)(path) for path in paths.values()
    )
    results = list(progress(checks, total=len(paths), description="checking audio"))
    problems = {name: problem for name, (problem, _, _) in zip(paths, results, strict=True) if problem}
    conversions = Counter(name for _, needed, _ in results for name in needed)
    return problems, conversions, tuple(warning for _, _, warning in results if warning)


def _check_clip(path: Path) -> tuple[str | None, list[str], str | None]:
    """Decode a clip; return the problem, the conversions it needs, and a warning."""
    try:
        recording = read_recording(path)
    except BadAudio as error:
        return str(error), [], None
    return None, recording.conversions, recording.warning


def _write_without(source: Path, target: Path, clips: set[str]) -> None:
    """Copy an annotation file without the rows of some clips."""
    table = read_csv(source, dtype=str, keep_default_na=False, skipinitialspace=True)
    table.columns = table.columns.str.strip()
    write_csv(target, table[~table["audio_filename"].str.strip().isin(clips)])


def fetch(context: FetchContext, data: Any) -> Summary:
    """Link the data set in ``data.path``."""
    root = context.resolve_path(data.path)
    if root.is_relative_to(context.out.resolve()):
        raise UserError(f"data.path: {root} is the stage's own output; name the folder it came from")
    return link_dataset(
        root,
        context.folder,
        coarse=data.coarse,
        skip_bad=data.on_bad_audio == "skip",
        progress=context.progress,
    )


SOURCE = Source(fetch)
