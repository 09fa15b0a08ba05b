"""Write what makes a feature of any clip: its settings and, of features that have a network, its weights."""

import argparse
from pathlib import Path

from stages import from_project
from ust.commands.console import done, parse, run


def main() -> None:
    """Write feature.json, which says what they are, and the weights."""
    parser = argparse.ArgumentParser(prog="python -m stages.weights", description=__doc__)
    parser.add_argument("feature", help="its section of params.yaml has the same name")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--mirror", help="address of a folder that has the files to download")
    args = parse(parser)

    from ust.compute.device import prepare
    from ust.compute.section import Compute
    from ust.features.section import read_feature, write_weights
    from ust.files.settings import read_sections
    from ust.sources.fetch import cache_folder, fetch

    def bring(source: str, *, checksum: str | None = None) -> Path:
        if "://" not in source:
            return from_project(source)
        name = source.rpartition("/")[2]
        url = f"{args.mirror}/{name}" if args.mirror else source
        return fetch(url, cache_folder() / args.feature, name=name, checksum=checksum)

    _, settings = read_feature(args.params, args.feature)
    (compute,) = read_sections(args.params, compute=Compute)
    prepare(device="cpu", threads=compute.threads)
    provenance = write_weights(args.out, args.feature, settings, bring)
    done("%s: %s", args.out, f"{provenance['weights']} weights" if provenance else "no weights are needed")


if __name__ == "__main__":
    run(main)
