"""Bring the data set: synthesise it, link a local one, or download a release of SONYC-UST."""

import argparse
from dataclasses import asdict
from pathlib import Path

from stages import from_project
from ust import params
from ust.city.build import build_city
from ust.console import done, log, parse, run
from ust.dataset import Summary, link
from ust.errors import UserError, listing
from ust.fetch import cache_folder
from ust.files import replacing_folder, write_json
from ust.sonyc import RELEASES, bring


def main() -> None:
    """Write annotations.csv, dcase-ust-taxonomy.yaml, dataset.json and audio/<split>/."""
    parser = argparse.ArgumentParser(prog="python -m stages.download", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--zenodo", default="https://zenodo.org", help="a mirror's address")
    args = parse(parser, replaces=["out"])
    (data,) = params.load(args.params, "data")

    with replacing_folder(args.out, by="download", force=args.force) as folder:
        if data.source == "synthetic":
            clips = {"train": data.synthetic.train, "validate": data.synthetic.validate_}
            build_city(folder, seed=data.synthetic.seed, clips=clips)
            summary = Summary(clips, {}, ())
        else:
            skip_bad = data.on_bad_audio == "skip"
            if data.source == "local":
                root = from_project(data.path)
                if root.is_relative_to(args.out.resolve()):
                    raise UserError(
                        f"data.path: {root} is the stage's own output; name the folder it came from"
                    )
                summary = link(root, folder, skip_bad=skip_bad)
            else:
                home = cache_folder() / data.source
                unpacked = bring(RELEASES[data.source], home, zenodo=args.zenodo)
                summary = link(home, folder, audio_roots=unpacked, skip_bad=skip_bad)
        write_json(folder / "dataset.json", {"source": data.source, **asdict(summary)})
    if summary.skipped:
        log.warning(
            "left out %d clips:\n%s", len(summary.skipped), listing(list(summary.skipped), limit=10_000)
        )
    if summary.conversions:
        log.info(
            "converted when read: %s", ", ".join(f"{n} {what}" for what, n in summary.conversions.items())
        )
    done("%s: %s", args.out, ", ".join(f"{n} {split} clips" for split, n in summary.clips.items()))


if __name__ == "__main__":
    run(main)
