"""Compute a feature, a spectrogram or an embedding, of all clips and variants, and write it to HDF5."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stages import run_stage
from ust.cli.console import log_done, parse_args, parse_shard, progress


def main(argv: Sequence[str] | None = None) -> None:
    """Write the feature file: clip, variant, split and value of each row."""
    parser = argparse.ArgumentParser(prog="python -m stages.extract", description=__doc__)
    parser.add_argument("feature", help="a row of spectrograms or embeddings in params.yaml")
    parser.add_argument("audio", type=Path, help="folder with a folder per split")
    parser.add_argument("augmented", type=Path, help="folder of the stage augment")
    parser.add_argument("out", type=Path, help="HDF5 file to write")
    parser.add_argument(
        "--network", type=Path, help="for an embedding, the folder that the stage weights wrote"
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="compute one shard of N; a run without this writes the file",
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, writes=["out"], argv=argv)
    shard = parse_shard(args.shard)

    from ust.features.extraction import Extraction, extract_shard
    from ust.features.registry import read_feature
    from ust.features.store import find_rows
    from ust.util.config import Compute, read_sections

    row = read_feature(args.params, args.feature)
    (compute,) = read_sections(args.params, compute=Compute)
    extraction = Extraction(
        row,
        args.audio,
        args.augmented,
        args.network,
        args.out,
        threads=compute.threads,
        device=compute.device,
    )
    if shard is None and compute.scheduler is not None:
        from ust.util.engines import run_shards

        count = -(-len(find_rows(args.audio, args.augmented)) // compute.shard_clips)
        shards = run_shards(
            partial(extract_shard, extraction.with_absolute_paths(), count),
            list(range(count)),
            scheduler=compute.scheduler,
        )
        for _ in progress(shards, total=count, description=args.feature, unit="shard"):
            pass
    rows, shape = extraction.run(shard, progress=progress)
    weights = extraction.description.get("weights")
    values = " × ".join(map(str, shape)) + (f", {weights} weights" if weights else "")
    if shard is None:
        log_done("%s: %d rows of %s", args.out, rows, values)
    else:
        index, count = shard
        log_done("%s: stored shard %d of %d of %d rows of %s", args.out, index + 1, count, rows, values)


if __name__ == "__main__":
    run_stage(main)
