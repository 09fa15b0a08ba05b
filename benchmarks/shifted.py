"""Copy a data set with the clips of one split as a distant sensor would record them.

    python -m benchmarks.shifted CITY SHIFTED [--split validate]

Every clip gets reverberation, pink or traffic noise, the band-pass of a microphone and a low level, by the
augmentation ``sensor`` (`ust.audio.augmentation.simulate_sensor`) with fixed ranges and a seed that no
training uses. The clips of other splits and the tables are linked.
"""

import argparse
from pathlib import Path

from ust.annotations.annotations import read_annotations
from ust.annotations.taxonomy import read_taxonomy
from ust.audio.augmentation import PlannedVariant, augment
from ust.audio.recordings import SAMPLE_RATE, load_audio, write_sound

SEED = 7777
SENSOR = {
    "low_cut": 120.0,
    "high_cut": [3000.0, 8000.0],
    "reverberation": [0.2, 0.8],
    "snr_db": [0.0, 12.0],
    "gain_db": [-40.0, 0.0],
}


def shift_data_set(source: Path, target: Path, split: str) -> int:
    """Write the data set to an empty folder; return the number of clips that were changed."""
    taxonomy, table = "dcase-ust-taxonomy.yaml", "annotations.csv"
    annotations = read_annotations(source / table, read_taxonomy(source / taxonomy))
    clips = annotations.groupby("audio_filename")["split"].first()
    for name in (taxonomy, table):
        target.mkdir(parents=True, exist_ok=True)
        (target / name).symlink_to((source / name).resolve())
    for name, of_split in clips.items():
        place = target / of_split / name
        place.parent.mkdir(exist_ok=True)
        if of_split != split:
            place.symlink_to((source / of_split / name).resolve())
            continue
        variant = PlannedVariant(name, "sensor", "sensor", SENSOR, SEED)
        samples = augment(load_audio(source / of_split / name, SAMPLE_RATE), SAMPLE_RATE, variant)
        write_sound(place, samples, SAMPLE_RATE, format="WAV", subtype="PCM_24")
    return int((clips == split).sum())


def main() -> None:
    """Write the data set."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shifted", description=__doc__)
    parser.add_argument("source", type=Path, help="data set with annotations.csv and a folder for each split")
    parser.add_argument("target", type=Path, help="folder to write")
    parser.add_argument("--split", default="validate", help="split whose clips are changed")
    args = parser.parse_args()
    count = shift_data_set(args.source, args.target, args.split)
    print(f"{args.target}: {count} {args.split} clips changed")  # noqa: T201


if __name__ == "__main__":
    main()
