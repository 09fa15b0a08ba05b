"""Extract a feature of all clips and variants to HDF5."""

import argparse
from pathlib import Path

from ust.commands.console import done, parse, progress, run


def main() -> None:
    """Write clip, variant, split and the feature, an array of one shape for each."""
    parser = argparse.ArgumentParser(prog="python -m stages.extract", description=__doc__)
    parser.add_argument("feature", help="its section of params.yaml has the same name")
    parser.add_argument("audio", type=Path, help="folder with a folder per split")
    parser.add_argument("augmented", type=Path, help="folder of the stage augment")
    parser.add_argument("weights", type=Path, help="folder of the stage weights")
    parser.add_argument("out", type=Path, help="HDF5 file to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, writes=["out"])

    from ust.features.extraction import extract
    from ust.features.feature import DESCRIPTION_FILE
    from ust.features.rows import find_rows
    from ust.features.section import read_feature
    from ust.files.documents import read_json

    feature, settings = read_feature(args.params, args.feature)
    description = read_json(args.weights / DESCRIPTION_FILE, made_by=f"weights@{args.feature}")
    provenance = {key: description[key] for key in ("weights", "sha256") if key in description}
    network = {"provenance": provenance}
    if feature.on_batch:
        from ust.compute.device import Compute, prepare
        from ust.files.settings import read_sections

        (compute,) = read_sections(args.params, compute=Compute)
        device = prepare(device=compute.device, threads=compute.threads)
        computed = feature.of_settings(settings.model_dump())
        network |= {
            "on_batch": feature.on_batch(args.weights, computed, device),
            "conditions": {
                "batch_clips": settings.batch_clips, "threads": compute.threads, "device": device.type
            },
        }  # fmt: skip
    rows = find_rows(args.audio, args.augmented)
    shape = extract(
        args.out, args.feature, feature, rows, settings.model_dump(), progress=progress, **network
    )
    weights = f", {description['weights']} weights" if "weights" in description else ""
    done("%s: %d rows of %s%s", args.out, len(rows), " × ".join(map(str, shape)), weights)


if __name__ == "__main__":
    run(main)
