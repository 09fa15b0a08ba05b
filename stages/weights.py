"""Write what makes a feature of any clip: its settings and, of features that have a network, its weights."""

import argparse
from pathlib import Path

from stages import from_project, run_stage
from ust.cli.console import log_done, parse_args


def main() -> None:
    """Write feature.json, which says what they are, and the weights."""
    parser = argparse.ArgumentParser(prog="python -m stages.weights", description=__doc__)
    parser.add_argument("feature", help="its section of params.yaml has the same name")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--mirror", help="address of a folder that has the files to download")
    args = parse_args(parser)

    from ust.datasets.download import cache_folder, download_file
    from ust.features.registry import read_feature, write_weights
    from ust.util.config import Compute, read_sections
    from ust.util.device import prepare_device

    def bring(source: str, *, checksum: str | None = None) -> Path:
        if "://" not in source:
            return from_project(source)
        name = source.rpartition("/")[2]
        url = f"{args.mirror}/{name}" if args.mirror else source
        return download_file(url, cache_folder() / args.feature, name=name, checksum=checksum)

    _, settings = read_feature(args.params, args.feature)
    (compute,) = read_sections(args.params, compute=Compute)
    prepare_device(device="cpu", threads=compute.threads)
    provenance = write_weights(args.out, args.feature, settings, bring)
    log_done(
        "%s: %s", args.out, f"{provenance['weights']} weights" if provenance else "no weights are needed"
    )


if __name__ == "__main__":
    run_stage(main)
