"""Write augmented variants of train clips: pitch shift, volume change, background noise."""

import argparse
from pathlib import Path

from ust.commands.console import done, parse, progress, run


def main() -> None:
    """Write the chosen variants below the output folder; an empty folder when none is enabled."""
    parser = argparse.ArgumentParser(prog="python -m stages.augment", description=__doc__)
    parser.add_argument("audio", type=Path, help="folder with train/")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, replaces=["out"])

    from joblib import Parallel, delayed

    from ust.audio.augmentation import Augment, wanted, write_variant
    from ust.features.rows import find_rows
    from ust.files.folders import replacing_folder
    from ust.files.settings import read_sections

    (settings,) = read_sections(args.params, augment=Augment)
    train = {row.clip: row.path for row in find_rows(args.audio) if row.split == "train"}
    variants = wanted(list(train), settings)
    with replacing_folder(args.out, by="augment", force=args.force) as folder:
        written = Parallel(n_jobs=-1, return_as="generator")(
            delayed(write_variant)(train[each.clip], folder / each.variant / "train", each)
            for each in variants
        )
        for _ in progress(written, total=len(variants), description="augmenting"):
            pass
    done("%s: %d variants of %d train clips", args.out, len(variants), len(train))


if __name__ == "__main__":
    run(main)
