"""The published SONYC-UST data sets: what they consist of and how they are brought here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ust.files.errors import UserError
from ust.sources.archives import unpack
from ust.sources.fetch import RETRIES, fetch, zenodo_files
from ust.sources.folder import link
from ust.sources.source import ANNOTATIONS, TAXONOMY, Place, Source, Summary


@dataclass(frozen=True)
class Release:
    """A Zenodo record: its number, its archives, and the checksums that are known beforehand."""

    record: int
    archives: tuple[str, ...]
    md5: Mapping[str, str] = field(default_factory=dict)


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

RELEASES = {
    "sonyc-ust-v1": Release(
        2590742,
        ("audio.tar.gz",),
        {ANNOTATIONS: "c8362f30832bf637f189eefe8b4b56a4", TAXONOMY: "6c1cca1c4c383a6ebb0cb71cb74fe3a9"},
    ),
    "sonyc-ust-v2": Release(
        3966543,
        tuple(f"audio-{i}.tar.gz" for i in range(19)),
        {
            ANNOTATIONS: "70b507b15bb4cfcce4870925302f276b",
            TAXONOMY: "6c1cca1c4c383a6ebb0cb71cb74fe3a9",
            **{f"audio-{i}.tar.gz": md5 for i, md5 in enumerate(_V2_ARCHIVES)},
        },
    ),
}


def download(release: Release, folder: Path, *, zenodo: str, retries: int = RETRIES) -> list[Path]:
    """Download and unpack a release; what is already there whole is not brought again.

    Parameters
    ----------
    release : Release
    folder : Path
        Where the release is kept.
    zenodo : str
        ``https://zenodo.org``.
    retries : int
        See `ust.sources.fetch.fetch`.

    Returns
    -------
    list of Path
        The folders the archives were unpacked to. Each archive is deleted once its folder is complete.

    Raises
    ------
    UserError
        If a file cannot be had with the right checksum, or an archive is refused.
    """
    names = (ANNOTATIONS, TAXONOMY, *release.archives)
    known = {name: f"md5:{md5}" for name, md5 in release.md5.items()}
    if any(name not in known for name in names):
        # What was known beforehand stands: the record cannot change it.
        known = {**zenodo_files(release.record, folder, zenodo=zenodo, retries=retries), **known}
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(f"{zenodo}: record {release.record} has no file {', '.join(missing)}")

    def get(name: str) -> Path:
        url = f"{zenodo}/records/{release.record}/files/{name}?download=1"
        return fetch(url, folder, name=name, checksum=known[name], retries=retries)

    for name in (ANNOTATIONS, TAXONOMY):
        get(name)
    unpacked = []
    for name in release.archives:
        target = folder / name.removesuffix(".tar.gz")
        if not target.is_dir():
            archive = get(name)
            unpack(archive, target)
            archive.unlink()
        unpacked.append(target)
    return unpacked


def source(name: str) -> Source:
    """A release as a source: downloaded once for all clones, then linked."""

    def bring(place: Place, data: Any) -> Summary:
        home = place.cache / name
        unpacked = download(RELEASES[name], home, zenodo=place.zenodo)
        skip_bad = data.on_bad_audio == "skip"
        return link(home, place.folder, audio_roots=unpacked, skip_bad=skip_bad, progress=place.progress)

    return Source(bring)


V1, V2 = source("sonyc-ust-v1"), source("sonyc-ust-v2")
