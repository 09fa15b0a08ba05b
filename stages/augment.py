"""Write augmented variants of train clips: pitch shift, volume change, background noise."""

import argparse
from pathlib import Path

from joblib import Parallel, delayed

from ust import params
from ust.audio import read_clip, write_sound
from ust.augmentation import augment, chosen, names
from ust.clips import SAMPLE_RATE
from ust.console import done, parse, progress, run
from ust.features import Row, find_rows
from ust.files import replacing_folder


def write_variant(row: Row, folder: Path, method: str, variant: str, settings: dict, seed: int) -> None:
    """Write one variant of a clip as ``<variant>/train/<audio_filename>.flac``."""
    samples = read_clip(row.path, SAMPLE_RATE)
    options = {"method": method, "variant": variant, "settings": settings}
    out = augment(samples, SAMPLE_RATE, **options, clip=row.clip, seed=seed)
    path = folder / variant / row.split / f"{row.clip}.flac"
    write_sound(path, out, SAMPLE_RATE, format="FLAC", subtype="PCM_24")


def main() -> None:
    """Write the chosen variants below the output folder; an empty folder when none is enabled."""
    parser = argparse.ArgumentParser(prog="python -m stages.augment", description=__doc__)
    parser.add_argument("audio", type=Path, help="folder with train/")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, replaces=["out"])
    (settings,) = params.load(args.params, "augment")

    train = [row for row in find_rows(args.audio) if row.split == "train"]
    jobs = []
    for method, values in settings.model_dump(exclude={"seed"}).items():
        enabled, proportion, copies = (values.pop(key) for key in ("enabled", "proportion", "copies"))
        for variant in names(method, copies) if enabled else []:
            for row in train:
                if chosen(row.clip, variant=variant, proportion=proportion, seed=settings.seed):
                    jobs.append((row, method, variant, values))
    with replacing_folder(args.out, by="augment", force=args.force) as folder:
        written = Parallel(n_jobs=-1, return_as="generator")(
            delayed(write_variant)(row, folder, *what, settings.seed) for row, *what in jobs
        )
        for _ in progress(written, total=len(jobs), description="augmenting"):
            pass
    done("%s: %d variants of %d train clips", args.out, len(jobs), len(train))


if __name__ == "__main__":
    run(main)
