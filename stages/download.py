"""Fetch the data set: synthesise it, link a local one, or download a release of SONYC-UST."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from stages import from_project, run_stage
from ust.cli.console import log, log_done, parse_args, progress


def main(argv: Sequence[str] | None = None) -> None:
    """Write annotations.csv, dcase-ust-taxonomy.yaml, dataset.json and audio/<split>/."""
    parser = argparse.ArgumentParser(prog="python -m stages.download", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument(
        "--zenodo",
        default=os.environ.get("UST_ZENODO") or "https://zenodo.org",
        help="a mirror's address, by default $UST_ZENODO",
    )
    args = parse_args(parser, replaces=["out"], argv=argv)

    from dataclasses import asdict

    from ust.annotations.annotations import AS_GIVEN, read_annotations, require_ground_truth
    from ust.annotations.taxonomy import read_taxonomy
    from ust.datasets.download import cache_folder
    from ust.datasets.registry import SOURCES, Data, read_scored_splits
    from ust.datasets.source import ANNOTATIONS, TAXONOMY, FetchContext
    from ust.util.config import read_sections
    from ust.util.documents import write_json
    from ust.util.errors import bullet_list
    from ust.util.folders import atomic_folder

    (data,) = read_sections(args.params, data=Data)
    with atomic_folder(args.out, by="download", force=args.force) as folder:
        scored = read_scored_splits(args.params)
        context = FetchContext(folder, args.out, from_project, cache_folder(), args.zenodo, scored, progress)
        summary = SOURCES[data.source].fetch(context, data)
        annotations = read_annotations(folder / ANNOTATIONS, read_taxonomy(folder / TAXONOMY), AS_GIVEN)
        require_ground_truth(annotations, scored, args.out / ANNOTATIONS)
        metadata = {"source": data.source, "release": data.version, "coarse": data.coarse}
        write_json(folder / "dataset.json", metadata | asdict(summary))
    if summary.skipped:
        log.warning(
            "left out %d clips:\n%s", len(summary.skipped), bullet_list(list(summary.skipped), limit=10_000)
        )
    if summary.incomplete:
        log.warning(
            "%d files are incomplete:\n%s", len(summary.incomplete), bullet_list(list(summary.incomplete))
        )
    if summary.conversions:
        texts = ", ".join(f"{n} {conversion}" for conversion, n in summary.conversions.items())
        log.info("converted when read: %s", texts)
    log_done("%s: %s", args.out, ", ".join(f"{n} {split} clips" for split, n in summary.clips.items()))


if __name__ == "__main__":
    run_stage(main)
