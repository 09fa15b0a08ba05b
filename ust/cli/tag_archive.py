"""Tag an archive of recordings, thousands or millions, to a folder of Parquet files; what is done stays done.

The same command does what is left, and tags the recordings that have been added to SOURCE since.

SOURCE is a folder, a pattern (s3://bucket/2024/**/*.flac), a manifest (CSV or Parquet with a column path and,
as far as known, start, duration, sensor, time), or an archive tagged with --embeddings, which is tagged anew
without reading any audio. OUT is a folder, here or at an address.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ust.cli.console import log, log_done, parse_args, parse_shard, progress
from ust.cli.tag import add_system, choose_system
from ust.util.errors import UserError, bullet_list
from ust.util.names import printable

if TYPE_CHECKING:
    from ust.archive.shard import ShardJob


def main(prog: str = "python -m stages.tag_archive", words: Sequence[str] | None = None) -> None:
    """Tag what is not tagged yet."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("out", metavar="OUT")
    add_system(parser)
    parser.add_argument("--window", type=float, default=10.0, help="seconds, at most 10, the default")
    parser.add_argument("--hop", type=float, default=10.0, help="seconds from window to window, default 10")
    parser.add_argument("--threshold", type=float, help="list stretches over this probability as events, too")
    parser.add_argument("--embeddings", action="store_true", help="keep what the system was given, too")
    parser.add_argument(
        "--shard", metavar="I/N", help="only every N-th shard, from the I-th on: for jobs of an array"
    )
    parser.add_argument("--scheduler", help="in the place of compute.scheduler of --params")
    parser.add_argument("--shard-clips", type=int, help="in the place of compute.shard_clips")
    args = parse_args(parser, words=words)
    first, step = parse_shard(args.shard) or (1, 1)

    from ust.archive.folder import Archive
    from ust.archive.recordings import find_recordings
    from ust.archive.shard import tag_shard
    from ust.util.engines import run_shards

    job, description, compute = _job(args)
    archive = Archive(args.out)
    before = Archive(job.tagged_before) if job.tagged_before else None
    there = archive.description()
    if there is not None:
        _check_same(args.out, there, description)
    found = None if before else find_recordings(args.source)
    if there is None:
        if found is not None and not len(found):
            raise UserError(f"{args.source}: no recordings there")
        description["shard_clips"] = before.description()["shard_clips"] if before else compute.shard_clips
        archive.begin(description)
        _check_same(args.out, archive.description(), description)
    if before:
        archive.add_lists_of(before)
    else:
        new, gone = archive.add(found, (there or description)["shard_clips"])
        if there and new:
            log.info("%s: %d new recordings", args.source, new)
        if gone:
            log.warning(
                "%s: %d recordings of this archive are no longer there, such as %s; their tags stay",
                args.source, len(gone), gone[0],
            )  # fmt: skip
    count = archive.shards()
    mine = list(range(count))[first - 1 :: step]
    finished = archive.finished()
    left = [shard for shard in mine if shard not in finished]
    if len(left) < len(mine):
        log.info("%s: %d of %d shards are done", args.out, len(mine) - len(left), len(mine))
    results = run_shards(partial(tag_shard, job), left, scheduler=compute.scheduler)
    found = list(progress(results, total=len(left), description="tagging", unit="shard"))
    failures = sum(each.failures for each in found)
    incomplete = sum(each.warnings for each in found)
    log_done(
        "%s: %d recordings, %d windows, %d recordings could not be tagged",
        args.out,
        sum(each.recordings for each in found),
        sum(each.rows for each in found),
        failures,
    )
    if incomplete:
        log.warning("%d recordings are incomplete; %s/warnings lists them", incomplete, args.out)
    if failures:
        reasons = [reason for each in found for reason in each.reasons]
        raise UserError(
            f"{failures} recordings could not be tagged, the others are; {args.out}/failures lists them with "
            f"the reasons:\n{bullet_list(reasons, limit=20)}"
        )


def _check_same(out: str, there: dict[str, Any], description: dict[str, Any]) -> None:
    """Check that an archive was begun as it is to be continued.

    Raises
    ------
    UserError
        If it was begun with another source, system or setting.
    """
    from ust.archive.filesystems import absolute

    there = there | {"source": absolute(there["source"])}  # older archives have it as it was given
    for key in description:
        if there.get(key) != description[key]:
            raise UserError(
                f"{out}: was begun with another {key.replace('_', ' ')} ({there.get(key)}, now "
                f"{description[key]}); name another folder"
            )


def _job(args: argparse.Namespace) -> "tuple[ShardJob, dict[str, Any], Any]":
    """What is the same for all shards, what stands in the archive, and how the machine is used."""
    from ust.archive.filesystems import absolute
    from ust.archive.folder import Archive
    from ust.archive.shard import ShardJob
    from ust.tagging.pretrained import model_id
    from ust.tagging.tagger import Tagger, check_window

    name, folder, inference_options, compute = choose_system(args)
    if args.shard_clips is not None and args.shard_clips < 1:
        raise UserError(f"--shard-clips is {args.shard_clips}, should be at least 1")
    changes = {"scheduler": args.scheduler, "shard_clips": args.shard_clips}
    compute = compute.model_copy(update={key: value for key, value in changes.items() if value})
    tagger = Tagger.load(folder, **inference_options)  # what is wrong with it is better said before the work
    check_window(args.window, args.hop)
    metadata = tagger.system.metadata
    inputs = {
        key: {"feature": each, **metadata["features"][each]} for key, each in metadata["inputs"].items()
    }
    description = {
        "source": printable(absolute(args.source)),
        "system": name,
        "model": model_id(folder, inference_options),
        "window": args.window,
        "hop": args.hop,
        "threshold": args.threshold,
        "embeddings": inputs if args.embeddings else None,
        "labels": list(tagger.taxonomy.labels),
    }
    before = _tagged_before(args, inputs)
    if before is not None:
        description |= {key: before[key] for key in ("window", "hop")}
        if args.embeddings or args.threshold is not None:
            raise UserError("an archive tagged anew has neither --embeddings nor --threshold of its own")
    job = ShardJob(
        archive=Archive(args.out).absolute_address,
        model=str(folder.resolve()),
        model_id=description["model"],
        inference_options=inference_options,
        window=description["window"],
        hop=description["hop"],
        threshold=args.threshold,
        embeddings=args.embeddings,
        tagged_before=Archive(args.source).absolute_address if before else None,
    )
    return job, description, compute


def _tagged_before(args: argparse.Namespace, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """What SOURCE says of itself, if it is an archive with the embeddings that the system takes."""
    from ust.archive.folder import Archive

    source = Archive(args.source)
    if not source.exists():
        return None
    found = source.description()
    if found["embeddings"] is None:
        raise UserError(f"{args.source}: was tagged without --embeddings; name its recordings instead")
    for key, wanted in inputs.items():
        if found["embeddings"].get(key) != wanted:
            raise UserError(
                f"{args.source}: has no {wanted['feature']} embeddings as the system takes them; name its "
                "recordings instead"
            )
    if len(source.finished()) < max(1, source.shards()):
        raise UserError(f"{args.source}: is not finished; tag all of it first")
    return found
