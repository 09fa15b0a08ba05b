"""Bring the data set: synthesise it, link a local one, or download a release of SONYC-UST."""

import argparse
import os
from pathlib import Path

from stages import from_project
from ust.commands.console import done, log, parse, progress, run


def main() -> None:
    """Write annotations.csv, dcase-ust-taxonomy.yaml, dataset.json and audio/<split>/."""
    parser = argparse.ArgumentParser(prog="python -m stages.download", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument(
        "--zenodo",
        default=os.environ.get("UST_ZENODO") or "https://zenodo.org",
        help="a mirror's address, by default $UST_ZENODO",
    )
    args = parse(parser, replaces=["out"])

    from dataclasses import asdict

    from ust.annotations.reading import AS_GIVEN, read_annotations, require_ground_truth
    from ust.annotations.taxonomy import read_taxonomy
    from ust.files.documents import write_json
    from ust.files.errors import listing
    from ust.files.folders import replacing_folder
    from ust.files.settings import read_sections
    from ust.sources.fetch import cache_folder
    from ust.sources.section import Data, scored_splits
    from ust.sources.source import ANNOTATIONS, TAXONOMY, Place
    from ust.sources.table import SOURCES

    (data,) = read_sections(args.params, data=Data)
    with replacing_folder(args.out, by="download", force=args.force) as folder:
        scored = scored_splits(args.params)
        place = Place(folder, args.out, from_project, cache_folder(), args.zenodo, scored, progress)
        summary = SOURCES[data.source].bring(place, data)
        annotations = read_annotations(folder / ANNOTATIONS, read_taxonomy(folder / TAXONOMY), AS_GIVEN)
        require_ground_truth(annotations, scored, args.out / ANNOTATIONS)
        about = {"source": data.source, "release": data.version, "coarse": data.coarse}
        write_json(folder / "dataset.json", about | asdict(summary))
    if summary.skipped:
        log.warning(
            "left out %d clips:\n%s", len(summary.skipped), listing(list(summary.skipped), limit=10_000)
        )
    if summary.incomplete:
        log.warning(
            "%d files are incomplete:\n%s", len(summary.incomplete), listing(list(summary.incomplete))
        )
    if summary.conversions:
        log.info(
            "converted when read: %s", ", ".join(f"{n} {what}" for what, n in summary.conversions.items())
        )
    done("%s: %s", args.out, ", ".join(f"{n} {split} clips" for split, n in summary.clips.items()))


if __name__ == "__main__":
    run(main)
