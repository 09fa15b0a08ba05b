"""Write the weights of a pretrained network, downloaded or random, and their description."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages import from_project, run_stage
from ust.cli.console import log_done, parse_args


def main(argv: Sequence[str] | None = None) -> None:
    """Write the weights and network.json, their description."""
    parser = argparse.ArgumentParser(prog="python -m stages.weights", description=__doc__)
    parser.add_argument(
        "network", help="vggish, efficientat or onnx: its section of params.yaml has the same name"
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--mirror", help="URL of a folder with the files to download")
    args = parse_args(parser, argv=argv)

    from ust.datasets.download import cache_folder, download_file
    from ust.features.registry import read_network, write_network
    from ust.util.config import Compute, read_sections
    from ust.util.device import prepare_device

    def fetch_file(source: str, *, checksum: str | None = None) -> Path:
        if "://" not in source:
            return from_project(source)
        name = source.rpartition("/")[2]
        url = f"{args.mirror}/{name}" if args.mirror else source
        return download_file(url, cache_folder() / args.network, name=name, checksum=checksum)

    settings = read_network(args.params, args.network)
    (compute,) = read_sections(args.params, compute=Compute)
    prepare_device(device="cpu", threads=compute.threads)
    description = write_network(args.out, args.network, settings, fetch_file)
    log_done("%s: %s weights", args.out, description["weights"])


if __name__ == "__main__":
    run_stage(main)
