"""Bring the data set: synthesise it, link a local one, or download a release of SONYC-UST."""

import argparse
from pathlib import Path

from stages import from_project
from ust.commands.console import done, log, parse, progress, run


def main() -> None:
    """Write annotations.csv, dcase-ust-taxonomy.yaml, dataset.json and audio/<split>/."""
    parser = argparse.ArgumentParser(prog="python -m stages.download", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--zenodo", default="https://zenodo.org", help="a mirror's address")
    args = parse(parser, replaces=["out"])

    from dataclasses import asdict

    from ust.files.documents import write_json
    from ust.files.errors import listing
    from ust.files.folders import replacing_folder
    from ust.files.settings import read_sections
    from ust.sources.fetch import cache_folder
    from ust.sources.section import Data
    from ust.sources.source import Place
    from ust.sources.table import SOURCES

    (data,) = read_sections(args.params, data=Data)
    with replacing_folder(args.out, by="download", force=args.force) as folder:
        place = Place(folder, args.out, from_project, cache_folder(), args.zenodo, progress)
        summary = SOURCES[data.source].bring(place, data)
        write_json(folder / "dataset.json", {"source": data.source, **asdict(summary)})
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
