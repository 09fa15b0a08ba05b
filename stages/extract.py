"""Extract a feature of all clips and variants to HDF5."""

import argparse
from functools import partial
from pathlib import Path

from ust.commands.console import done, parse, parse_share, progress, run


def main() -> None:
    """Write clip, variant, split and the feature, an array of one shape for each."""
    parser = argparse.ArgumentParser(prog="python -m stages.extract", description=__doc__)
    parser.add_argument("feature", help="its section of params.yaml has the same name")
    parser.add_argument("audio", type=Path, help="folder with a folder per split")
    parser.add_argument("augmented", type=Path, help="folder of the stage augment")
    parser.add_argument("weights", type=Path, help="folder of the stage weights")
    parser.add_argument("out", type=Path, help="HDF5 file to write")
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="compute one share of N; a run without this writes the file",
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, writes=["out"])
    share = parse_share(args.shard)

    from ust.compute.section import Compute
    from ust.features.rows import find_rows
    from ust.features.section import read_feature
    from ust.features.shares import Extraction, extract_share
    from ust.files.settings import read_sections

    _, settings = read_feature(args.params, args.feature)
    (compute,) = read_sections(args.params, compute=Compute)
    extraction = Extraction(
        args.feature, settings.model_dump(), args.audio, args.augmented, args.weights, args.out,
        threads=compute.threads, device=compute.device,
    )  # fmt: skip
    if share is None and compute.scheduler is not None:
        from ust.compute.engines import run_shards

        count = -(-len(find_rows(args.audio, args.augmented)) // compute.shard_clips)
        shares = run_shards(
            partial(extract_share, extraction.everywhere, count),
            list(range(count)),
            scheduler=compute.scheduler,
            module="ust.features.shares",
        )
        for _ in progress(shares, total=count, description=args.feature, unit="shard"):
            pass
    rows, shape = extraction.run(share, progress=progress)
    weights = extraction.description.get("weights")
    what = " × ".join(map(str, shape)) + (f", {weights} weights" if weights else "")
    if share is None:
        done("%s: %d rows of %s", args.out, rows, what)
    else:
        done("%s: share %d of %d of %d rows of %s is kept", args.out, *share, rows, what)


if __name__ == "__main__":
    run(main)
