"""A data set folder in the SONYC-UST layout: finding its clips, checking them, linking them in place."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from ust.annotations.reading import AUDIO_SUFFIXES, read_annotations
from ust.annotations.taxonomy import read_taxonomy
from ust.audio.recordings import BadAudio, read_recording
from ust.files.errors import UserError, listing
from ust.files.nfc import nfc
from ust.files.progress import Progress, silent
from ust.sources.source import ANNOTATIONS, TAXONOMY, Place, Source, Summary


def link(
    root: Path,
    target: Path,
    *,
    audio_roots: Iterable[Path] | None = None,
    skip_bad: bool,
    progress: Progress = silent,
) -> Summary:
    """Make a data set that lies elsewhere available under `target`, by links: nothing is copied.

    Every clip of the annotations is decoded once to check it.

    Parameters
    ----------
    root : Path
        Folder with ``annotations.csv`` and ``dcase-ust-taxonomy.yaml``.
    target : Path
        Empty folder; gets those two and ``audio/<split>/<audio_filename>``.
    audio_roots : iterable of Path, optional
        Folders with the audio, `root` by default. In each, a clip may lie in ``audio/<split>/``,
        ``<split>/`` (v1), ``audio/`` (v2) or the folder itself, also as FLAC or OGG under the same stem.
    skip_bad : bool
        Leave out clips that are missing or unusable (and their annotation rows) instead of failing.
    progress : Progress

    Raises
    ------
    UserError
        If the annotations or the taxonomy are wrong; or, unless `skip_bad`, listing every missing or
        unusable clip.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; data.path should name the folder with {ANNOTATIONS}")
    taxonomy = read_taxonomy(root / TAXONOMY)
    annotations = read_annotations(root / ANNOTATIONS, taxonomy)
    clips = annotations.groupby("audio_filename")["split"].first()
    index = _index(audio_roots or [root], clips.index)
    paths = {name: _find(index, name, split) for name, split in clips.items()}

    bad, conversions = _check_all({name: path or root / name for name, path in paths.items()}, progress)
    if bad and not skip_bad:
        raise UserError(
            f"{len(bad)} of {len(paths)} audio files cannot be used; to go on without them, and without what "
            f"was said of them, set data.on_bad_audio to skip:\n{listing(list(bad.values()), limit=10_000)}"
        )
    if len(bad) == len(paths):
        raise UserError(f"{root}: no audio file can be used:\n{listing(list(bad.values()))}")
    for name, split in clips.items():
        if name not in bad:
            place = target / "audio" / split / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(paths[name].resolve())
    (target / TAXONOMY).symlink_to((root / TAXONOMY).resolve())
    if bad:
        _write_without(root / ANNOTATIONS, target / ANNOTATIONS, set(bad))
    else:
        (target / ANNOTATIONS).symlink_to((root / ANNOTATIONS).resolve())
    counts = clips[~clips.index.isin(list(bad))].value_counts().sort_index()
    return Summary(counts.to_dict(), dict(sorted(conversions.items())), tuple(bad.values()))


def _index(roots: Iterable[Path], names: Iterable[str]) -> dict[str, list[Path]]:
    """Return audio files by stem in Unicode's form C; one walk through each folder for all clips."""
    stems = {nfc(Path(name).stem) for name in names}
    index: dict[str, list[Path]] = {}
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(files):
                path = Path(folder, name)
                stem = nfc(path.stem)
                if stem in stems and path.suffix.lower() in AUDIO_SUFFIXES:
                    index.setdefault(stem, []).append(path)
    return index


def _find(index: dict[str, list[Path]], name: str, split: str) -> Path | None:
    """A clip's file: one in a folder of its split's name before others, then one of its own suffix."""
    found = index.get(nfc(Path(name).stem), [])
    return min(found, key=lambda path: (path.parent.name != split, nfc(path.name) != nfc(name)), default=None)


def _check_all(paths: dict[str, Path], progress: Progress) -> tuple[dict[str, str], Counter]:
    """By clip, why it cannot be used; and how many of the others need which conversion."""
    checks = Parallel(n_jobs=-1, return_as="generator", batch_size=8)(
        delayed(_check)(path) for path in paths.values()
    )
    bad: dict[str, str] = {}
    conversions: Counter = Counter()
    found = progress(checks, total=len(paths), description="checking audio")
    for name, (reason, needed) in zip(paths, found, strict=True):
        if reason:
            bad[name] = reason
        conversions.update(needed)
    return bad, conversions


def _check(path: Path) -> tuple[str | None, list[str]]:
    try:
        return None, read_recording(path).conversions
    except BadAudio as error:
        return str(error), []


def _write_without(source: Path, target: Path, clips: set[str]) -> None:
    table = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    table[~table["audio_filename"].str.strip().isin(clips)].to_csv(target, index=False, lineterminator="\n")


def needs_path(data: Any) -> None:
    """Check that the section ``data`` names the folder."""
    if not data.path:
        raise ValueError("source 'local' needs data.path, the folder that holds annotations.csv")


def bring(place: Place, data: Any) -> Summary:
    """Link the folder ``data.path``."""
    root = place.project(data.path)
    if root.is_relative_to(place.out.resolve()):
        raise UserError(f"data.path: {root} is the stage's own output; name the folder it came from")
    return link(root, place.folder, skip_bad=data.on_bad_audio == "skip", progress=place.progress)


SOURCE = Source(bring, check=needs_path)
