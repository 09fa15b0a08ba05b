"""Write augmented variants of train clips: pitch shift, volume change, background noise."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages import run_stage
from ust.cli.console import log_done, parse_args, progress


def main(argv: Sequence[str] | None = None) -> None:
    """Write a FLAC file for each variant; if none is enabled, the output folder is empty."""
    parser = argparse.ArgumentParser(prog="python -m stages.augment", description=__doc__)
    parser.add_argument("audio", type=Path, help="folder with train/")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, replaces=["out"], argv=argv)

    from joblib import Parallel, delayed

    from ust.audio.augmentation import Augment, plan_variants, write_variant
    from ust.features.store import find_rows
    from ust.util.config import read_sections
    from ust.util.folders import atomic_folder

    (settings,) = read_sections(args.params, augment=Augment)
    train = {row.clip: row.path for row in find_rows(args.audio) if row.split == "train"}
    variants = plan_variants(list(train), settings)
    with atomic_folder(args.out, by="augment", force=args.force) as folder:
        # Not by the workers: those of a killed run would make the folder again after its removal.
        for name in {variant.variant for variant in variants}:
            (folder / name / "train").mkdir(parents=True)
        written = Parallel(n_jobs=-1, return_as="generator")(
            delayed(write_variant)(train[variant.clip], folder / variant.variant / "train", variant)
            for variant in variants
        )
        for _ in progress(written, total=len(variants), description="augmenting"):
            pass
    log_done("%s: %d variants of %d train clips", args.out, len(variants), len(train))


if __name__ == "__main__":
    run_stage(main)
