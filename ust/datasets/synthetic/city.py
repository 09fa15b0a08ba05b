"""Write the synthetic city in the layout of SONYC-UST v1, on request with the time and place of v2."""

from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from pydantic import Field

from ust.annotations.annotations import KEYS
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
from ust.audio.recordings import write_sound
from ust.datasets.source import ANNOTATIONS, AUDIO, TAXONOMY, FetchContext, Source, Summary
from ust.datasets.synthetic import context as city_context
from ust.datasets.synthetic.annotators import Annotators
from ust.datasets.synthetic.scene import Event, draw_scenes, render_scene
from ust.datasets.synthetic.signals import SAMPLE_RATE
from ust.datasets.synthetic.sounds import TAXONOMY as SOUND_TAXONOMY
from ust.util.config import PositiveInt, Section, Seed
from ust.util.documents import write_yaml
from ust.util.progress import Progress, silent
from ust.util.seeding import random_stream

SENSORS = {"validate": range(8), "train": range(8, 40)}  # as in SONYC-UST, no sensor is in both splits
FIRST_INDEX = {"train": 0, "validate": 500_000}


def build_city(
    target: Path, *, seed: int, clips: dict[str, int], context: bool = False, progress: Progress = silent
) -> None:
    """Synthesise clips and annotations.

    Parameters
    ----------
    target : Path
        Output folder for ``annotations.csv``, ``dcase-ust-taxonomy.yaml`` and ``audio/<split>/*.wav`` (10 s,
        mono, 44.1 kHz, 16 bits).
    seed : int
        Equal seeds give equal files.
    clips : dict of str to int
        Number of clips per split (``train``, ``validate``).
    context : bool
        Whether clips have a time and a place, in the columns of SONYC-UST v2, which their sounds follow.
    progress : Progress

    Examples
    --------
    >>> build_city(Path("city"), seed=0, clips={"train": 20, "validate": 10})  # doctest: +SKIP
    """
    write_taxonomy(target / TAXONOMY)
    taxonomy = read_taxonomy(target / TAXONOMY)
    annotators = Annotators(taxonomy, seed)
    rows, jobs = [], []
    for split in sorted(clips, reverse=True):
        (target / AUDIO / split).mkdir(parents=True, exist_ok=True)
        for index, events in enumerate(draw_scenes(seed, split, clips[split])):
            sensor = int(random_stream(seed, "sensor", split, str(index)).choice(SENSORS[split]))
            time_and_place: dict[str, int | float] = {}
            if context:
                rng = random_stream(seed, "context", split, str(index))
                sensor, time_and_place = city_context.draw_context(events, SENSORS[split], seed, rng)
            name = f"{sensor:02d}_{FIRST_INDEX[split] + index:06d}.wav"
            clip = {"split": split, "sensor_id": sensor, "audio_filename": name, **time_and_place}
            rows += annotators.rows(clip, events, random_stream(seed, "annotate", name))
            jobs.append((target / AUDIO / split / name, events, sensor))
    columns = annotation_columns(taxonomy, context=context)
    pd.DataFrame(rows)[columns].to_csv(target / ANNOTATIONS, index=False, lineterminator="\n")
    written = Parallel(n_jobs=-1, return_as="generator")(delayed(_write_clip)(*job, seed) for job in jobs)
    for _ in progress(written, total=len(jobs), description="synthesising"):
        pass


def annotation_columns(taxonomy: Taxonomy, *, context: bool = False) -> list[str]:
    """Return the columns of SONYC-UST's annotation file in order: 70 with its taxonomy, 78 in v2."""
    return [
        *KEYS,
        *(city_context.COLUMNS if context else ()),
        *(f"{label}_presence" for label in taxonomy.fine),
        *(f"{label}_proximity" for label in taxonomy.fine),
        *(f"{label}_presence" for label in taxonomy.coarse),
    ]


def _write_clip(path: Path, events: list[Event], sensor: int, seed: int) -> None:
    """Render a scene and write it as a WAV file."""
    samples = render_scene(events, sensor, random_stream(seed, "render", path.name))
    write_sound(path, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")


def write_taxonomy(path: Path) -> None:
    """Write the SONYC-UST taxonomy in the layout of ``dcase-ust-taxonomy.yaml``."""
    fine, coarse = {}, {}
    for number, (group, sounds) in enumerate(SOUND_TAXONOMY.items(), start=1):
        coarse[number] = group
        known = [name for name, sound in sounds.items() if sound is not None]
        numbers = [*range(1, len(known) + 1), "X"]
        fine[number] = dict(zip(numbers, sounds, strict=False))  # the -X label, without a sound, is last
    path.parent.mkdir(parents=True, exist_ok=True)
    write_yaml(path, {"fine": fine, "coarse": coarse})


class SyntheticConfig(Section):
    """The section ``data.synthetic`` of params.yaml."""

    seed: Seed = 2019
    """Seed of the sounds and of the annotators."""
    train: PositiveInt = 128
    """Number of train clips; SONYC-UST v1 has 2,351."""
    validate_: PositiveInt = Field(64, alias="validate")
    """Number of validate clips; SONYC-UST v1 has 443."""
    context: bool = False
    """Whether clips have the time and place of SONYC-UST v2, and sounds that follow them."""


def fetch(context: FetchContext, data: Any) -> Summary:
    """Synthesise the city of the section ``data.synthetic``."""
    settings = data.synthetic
    clips = {"train": settings.train, "validate": settings.validate_}
    build_city(
        context.folder, seed=settings.seed, clips=clips, context=settings.context, progress=context.progress
    )
    return Summary(clips, {}, ())


SOURCE = Source(fetch, settings=SyntheticConfig)
