"""The published SONYC-UST data sets: what they consist of and how they are brought here."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ust.annotations.annotations import AS_GIVEN, read_annotations, require_ground_truth
from ust.annotations.taxonomy import read_taxonomy
from ust.datasets.download import RETRIES, download_file, unpack, zenodo_files
from ust.datasets.local import link_dataset
from ust.datasets.source import ANNOTATIONS, TAXONOMY, Destination, Source, Summary
from ust.util.errors import UserError

log = logging.getLogger("ust")


@dataclass(frozen=True)
class Release:
    """A Zenodo record of a data set.

    Attributes
    ----------
    record : int
        Its number.
    archives : tuple of str
        Its audio files that the annotations need, each a ``.tar.gz``.
    md5 : mapping of str to str
        Checksums that are known beforehand, by the file's name; the record's JSON has the others.
    annotations : str
        Name of its annotation file, which is stored as ``annotations.csv``.
    clips : mapping of str to int
        Number of annotated clips by split, checked where given.
    note : str
        What a user of this release should know.
    """

    record: int
    archives: tuple[str, ...]
    md5: Mapping[str, str] = field(default_factory=dict)
    annotations: str = ANNOTATIONS
    clips: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


# MD5 of audio-0.tar.gz, audio-1.tar.gz …
_V2_ARCHIVES = [
    "bbb4dbae7d2e58e18d24878b9ee1eb51",
    "7c369ff37ac6a1fdd8493fdffe62e0a1",
    "412241c063d7f196953d3dd1c44aeb5e",
    "d2a872392d95993a2c238d305b940812",
    "b15b0e0cb3f8584259ef0d24293a9be3",
    "de745f887067433757a2f2c8f99f99bb",
    "b0286c67468369d66336f6f5ddede31f",
    "ff300183ab7a9d3f2f74c3b730ffeb52",
    "7be76b821fa6dbe20f6b50ca440e1024",
    "959f7edfbb26eadad9865069f38aa9dd",
    "84e94de273666c537a3e6b709ee88d9b",
    "44fe1f43121a7d1178aa0cdf7477793b",
    "a7eb21011f460b5ac289f8e285e875ab",
    "27945a8b1008eec787f97213164951e6",
    "fb8c7d81c3bde3a0c86c1e55e6a85a24",
    "f6af9b65d876ef96d199b9e5f0473cb9",
    "e8337c61a90c30989d500f950fbe443a",
    "3e47e85eb4564a30fe7f442ee97ec7b9",
    "c6b2ef4d0d5b7269d465c469cdbbdc4b",
]

# By source and version, a row for each Zenodo record, the latest last.
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


def latest_version(source: str) -> str:
    """Return the version of a source's latest release."""
    return list(RELEASES[source])[-1]


def download(
    release: Release, folder: Path, *, zenodo: str, scored: Iterable[str] = (), retries: int = RETRIES
) -> list[Path]:
    """Download and unpack a release; what is already there whole is not brought again.

    The tables come first and are checked, so that nothing large is downloaded in vain.

    Parameters
    ----------
    release : Release
    folder : Path
        Where the release is kept, and no other.
    zenodo : str
        ``https://zenodo.org``.
    scored : iterable of str
        Splits that need ground truth.
    retries : int
        See `ust.datasets.download.download_file`.

    Returns
    -------
    list of Path
        The folders the archives were unpacked to. Each archive is deleted once its folder is complete.

    Raises
    ------
    UserError
        If a file cannot be had with the right checksum, a split that will be scored has no ground truth, or
        an archive is refused.
    """
    names = (release.annotations, TAXONOMY, *release.archives)
    known = {name: f"md5:{md5}" for name, md5 in release.md5.items()}
    if any(name not in known for name in names):
        # What was known beforehand stands: the record cannot change it.
        known = {**zenodo_files(release.record, folder, zenodo=zenodo, retries=retries), **known}
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(f"{zenodo}: record {release.record} has no file {', '.join(missing)}")

    def get(name: str, to: str | None = None) -> Path:
        url = f"{zenodo}/records/{release.record}/files/{name}?download=1"
        return download_file(url, folder, name=to or name, checksum=known[name], retries=retries)

    get(release.annotations, ANNOTATIONS)
    get(TAXONOMY)
    if release.clips or scored:
        _check_annotations(release, folder, scored)
    unpacked = []
    for name in release.archives:
        target = folder / name.removesuffix(".tar.gz")
        if not target.is_dir():
            archive = get(name)
            unpack(archive, target)
            archive.unlink()
        unpacked.append(target)
    return unpacked


def _check_annotations(release: Release, folder: Path, scored: Iterable[str]) -> None:
    annotations = read_annotations(folder / ANNOTATIONS, read_taxonomy(folder / TAXONOMY), AS_GIVEN)
    found = annotations.groupby("split")["audio_filename"].nunique().to_dict()
    if release.clips and found != dict(release.clips):
        log.warning(
            "warning: %s has %s clips; the release is known to have %s",
            *(folder / ANNOTATIONS, _counts(found), _counts(release.clips)),
        )
    require_ground_truth(annotations, scored, folder / ANNOTATIONS)


def _counts(clips: Mapping[str, int]) -> str:
    return ", ".join(f"{clips[split]:,} {split}" for split in sorted(clips))


def make_source(name: str) -> Source:
    """Make a source of the releases of a data set: downloaded once for all clones, then linked."""

    def check(data: Any) -> None:
        if data.release is not None and data.release not in RELEASES[name]:
            there = ", ".join(RELEASES[name])
            raise ValueError(f"data.release {data.release!r} is none of {name}'s releases; it has {there}")

    def bring(place: Destination, data: Any) -> Summary:
        version = data.release or latest_version(name)
        release = RELEASES[name][version]
        home = place.cache / name / f"zenodo-{release.record}"
        unpacked = download(release, home, zenodo=place.zenodo, scored=place.scored)
        log.info("%s, release %s (Zenodo record %d)", name, version, release.record)
        if release.note:
            log.info("release %s: %s", version, release.note)
        return link_dataset(
            home,
            place.folder,
            audio_roots=unpacked,
            coarse=data.coarse,
            skip_bad=data.on_bad_audio == "skip",
            progress=place.progress,
        )

    return Source(bring, check=check, latest=latest_version(name))


V1, V2 = make_source("sonyc-ust-v1"), make_source("sonyc-ust-v2")
