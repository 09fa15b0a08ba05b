"""The data sources ``sonyc-ust-v1`` and ``sonyc-ust-v2``: download the published releases from Zenodo."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ust.annotations.annotations import AS_GIVEN, read_annotations, require_ground_truth
from ust.annotations.taxonomy import read_taxonomy
from ust.datasets.download import RETRIES, download_file, list_zenodo_files, unpack
from ust.datasets.local import link_dataset
from ust.datasets.source import ANNOTATIONS, TAXONOMY, FetchContext, Source, Summary
from ust.util.errors import UserError

log = logging.getLogger("ust")


@dataclass(frozen=True)
class Release:
    """A release of a data set, which is a Zenodo record."""

    record: int  # number of the record
    archives: tuple[str, ...]  # names of the audio archives with annotated clips, each a ``.tar.gz``
    # Known checksums by file name; the others are read from the record
    md5: Mapping[str, str] = field(default_factory=dict)
    annotations: str = ANNOTATIONS  # name of the annotation file, which is stored as ``annotations.csv``
    # Expected number of annotated clips by split; not checked if empty
    clips: Mapping[str, int] = field(default_factory=dict)
    note: str = ""  # remark on the release, logged after the download


# MD5 of audio-0.tar.gz, audio-1.tar.gz …
_V2_ARCHIVES = [
    "bbb4dbae7d2e58e18d24878b9ee1eb51", "7c369ff37ac6a1fdd8493fdffe62e0a1",
    "412241c063d7f196953d3dd1c44aeb5e", "d2a872392d95993a2c238d305b940812",
    "b15b0e0cb3f8584259ef0d24293a9be3", "de745f887067433757a2f2c8f99f99bb",
    "b0286c67468369d66336f6f5ddede31f", "ff300183ab7a9d3f2f74c3b730ffeb52",
    "7be76b821fa6dbe20f6b50ca440e1024", "959f7edfbb26eadad9865069f38aa9dd",
    "84e94de273666c537a3e6b709ee88d9b", "44fe1f43121a7d1178aa0cdf7477793b",
    "a7eb21011f460b5ac289f8e285e875ab", "27945a8b1008eec787f97213164951e6",
    "fb8c7d81c3bde3a0c86c1e55e6a85a24", "f6af9b65d876ef96d199b9e5f0473cb9",
    "e8337c61a90c30989d500f950fbe443a", "3e47e85eb4564a30fe7f442ee97ec7b9",
    "c6b2ef4d0d5b7269d465c469cdbbdc4b",
]  # fmt: skip

# Releases by source and version; the latest is last.
RELEASES: dict[str, dict[str, Release]] = {
    "sonyc-ust-v1": {
        "0.1": Release(
            2590742,
            ("audio.tar.gz",),
            {ANNOTATIONS: "c8362f30832bf637f189eefe8b4b56a4", TAXONOMY: "6c1cca1c4c383a6ebb0cb71cb74fe3a9"},
            clips={"train": 2351, "validate": 443},
            note="its coarse label machinery-impact is wrong wherever non-machinery-impact is present "
            "(data.coarse)",
        ),
        "0.2": Release(
            3233082,
            ("audio-dev.tar.gz",),
            annotations="annotations-dev.csv",
            clips={"train": 2351, "validate": 443},
            note="the 274 clips of its audio-eval.tar.gz have no annotations and are left out; release 1.0 "
            "has them as the split test",
        ),
        "1.0": Release(
            3338310,
            ("audio-dev.tar.gz", "audio-eval.tar.gz"),
            clips={"train": 2351, "validate": 443, "test": 274},
        ),
    },
    "sonyc-ust-v2": {
        "2.3": Release(
            3966543,
            tuple(f"audio-{number}.tar.gz" for number in range(len(_V2_ARCHIVES))),
            {
                ANNOTATIONS: "70b507b15bb4cfcce4870925302f276b",
                TAXONOMY: "6c1cca1c4c383a6ebb0cb71cb74fe3a9",
                **{f"audio-{number}.tar.gz": md5 for number, md5 in enumerate(_V2_ARCHIVES)},
            },
            clips={"train": 13538, "validate": 4308, "test": 664},
        ),
    },
}


def download(
    release: Release, folder: Path, *, zenodo: str, scored: Iterable[str] = (), retries: int = RETRIES
) -> list[Path]:
    """Download and unpack the missing files of a release.

    The tables are downloaded and checked first, before any large archive.
    """
    names = (release.annotations, TAXONOMY, *release.archives)
    known = {name: f"md5:{md5}" for name, md5 in release.md5.items()}
    if any(name not in known for name in names):
        # Known checksums take precedence over those of the record.
        known = {**list_zenodo_files(release.record, folder, zenodo=zenodo, retries=retries), **known}
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(f"{zenodo}: record {release.record} has no file {', '.join(missing)}")

    def fetch_file(name: str, saved_as: str | None = None) -> Path:
        """Download a file of the record."""
        url = f"{zenodo}/records/{release.record}/files/{name}?download=1"
        return download_file(url, folder, name=saved_as or name, checksum=known[name], retries=retries)

    fetch_file(release.annotations, ANNOTATIONS)
    fetch_file(TAXONOMY)
    if release.clips or scored:
        _check_annotations(release, folder, scored)
    unpacked = []
    for name in release.archives:
        target = folder / name.removesuffix(".tar.gz")
        if not target.is_dir():
            archive = fetch_file(name)
            unpack(archive, target)
            archive.unlink()
        unpacked.append(target)
    return unpacked


def _check_annotations(release: Release, folder: Path, scored: Iterable[str]) -> None:
    """Check the numbers of clips, and that the splits to evaluate have ground truth."""
    annotations = read_annotations(folder / ANNOTATIONS, read_taxonomy(folder / TAXONOMY), AS_GIVEN)
    counts = annotations.groupby("split")["audio_filename"].nunique().to_dict()
    if release.clips and counts != dict(release.clips):
        log.warning(
            "warning: %s has %s clips; the release is known to have %s",
            folder / ANNOTATIONS,
            _format_counts(counts),
            _format_counts(release.clips),
        )
    require_ground_truth(annotations, scored, folder / ANNOTATIONS)


def _format_counts(clips: Mapping[str, int]) -> str:
    """Return counts by split as text: "2,351 train, 443 validate"."""
    return ", ".join(f"{clips[split]:,} {split}" for split in sorted(clips))


def make_source(name: str) -> Source:
    """Return the source of a data set: its releases are downloaded to the cache once, then linked."""

    def check(data: Any) -> None:
        """Raise ValueError for an unknown release."""
        if data.release is not None and data.release not in RELEASES[name]:
            versions = ", ".join(RELEASES[name])
            raise ValueError(f"data.release {data.release!r} is none of {name}'s releases; it has {versions}")

    def fetch(context: FetchContext, data: Any) -> Summary:
        """Download and link the release ``data.release``."""
        release = RELEASES[name][data.version]
        folder = context.cache / name / f"zenodo-{release.record}"
        unpacked = download(release, folder, zenodo=context.zenodo, scored=context.scored)
        log.info("%s, release %s (Zenodo record %d)", name, data.version, release.record)
        if release.note:
            log.info("release %s: %s", data.version, release.note)
        return link_dataset(
            folder,
            context.folder,
            audio_roots=unpacked,
            coarse=data.coarse,
            skip_bad=data.on_bad_audio == "skip",
            progress=context.progress,
        )

    return Source(fetch, check=check, latest=list(RELEASES[name])[-1])


V1, V2 = make_source("sonyc-ust-v1"), make_source("sonyc-ust-v2")
