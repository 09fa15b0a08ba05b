"""Tag an archive of thousands or millions of recordings, to a folder of Parquet files.

Run the same command again to resume, or to tag recordings that were added to SOURCE in the meantime. --retry
also tags recordings that could not be tagged in earlier runs.

SOURCE is a folder, a pattern (s3://bucket/2024/**/*.flac), a manifest (CSV or Parquet with a column path and,
optionally, start, duration, sensor, time), or an archive tagged with --embeddings, which another system then
tags without reading audio. OUT is a local folder or an address that fsspec opens.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ust.cli.console import log, log_done, parse_args, parse_shard, progress
from ust.cli.tag import add_system_options, add_threshold_option, add_window_options, resolve_system
from ust.util.errors import UserError, bullet_list, plural
from ust.util.names import printable

if TYPE_CHECKING:
    from ust.archive.shard import ShardJob


def main(prog: str = "python -m stages.tag_archive", argv: Sequence[str] | None = None) -> None:
    """Tag the shards that are not finished."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SOURCE", help="recordings to tag, or an archive with embeddings")
    parser.add_argument("out", metavar="OUT", help="archive to create or to continue")
    add_system_options(parser)
    add_window_options(parser, hop=10.0)
    add_threshold_option(parser, "of an event")
    parser.add_argument(
        "--embeddings",
        action="store_true",
        help="also write the features, so that other systems can be run later",
    )
    parser.add_argument(
        "--sensors",
        type=Path,
        help="CSV file with sensor, latitude, longitude and, optionally, borough, for systems that take them",
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="process only every N-th shard, starting with the I-th, for job arrays"
    )
    parser.add_argument(
        "--retry", action="store_true", help="tag recordings again that could not be tagged in earlier runs"
    )
    parser.add_argument("--scheduler", help="overrides compute.scheduler of --params")
    parser.add_argument("--shard-clips", type=int, help="overrides compute.shard_clips of --params")
    args = parse_args(parser, argv=argv)
    first, step = parse_shard(args.shard) or (0, 1)

    from ust.archive.folder import Archive
    from ust.archive.recordings import find_recordings
    from ust.archive.shard import tag_shard
    from ust.util.engines import run_shards

    job, description, compute = _prepare_job(args)
    archive = Archive(args.out)
    source = Archive(job.source_archive) if job.source_archive else None
    existing = archive.description()
    if existing is not None:
        _check_same(args.out, existing, description)
    recordings = None if source else find_recordings(args.source)
    if existing is None:
        if recordings is not None and not len(recordings):
            raise UserError(f"{args.source}: contains no recordings")
        description["shard_clips"] = source.description()["shard_clips"] if source else compute.shard_clips
        archive.create(description)
        _check_same(args.out, archive.description(), description)
    if source:
        archive.copy_recordings(source)
    else:
        shard_clips = (existing or description)["shard_clips"]
        found = archive.add_recordings(recordings, shard_clips, retry=args.retry)
        if existing and found.new:
            log.info("%s: %s", args.source, plural(found.new, "new recording"))
        if args.retry:
            log.info("%s: trying %s again", args.source, plural(found.failed, "failed recording"))
        elif found.failed:
            log.warning(
                "%s: %s could not be tagged in earlier runs; %s/failures has the reasons, and --retry tries "
                "again",
                args.source, plural(found.failed, "recording"), args.out,
            )  # fmt: skip
        if found.missing:
            log.warning(
                "%s: no longer has %s of this archive, such as %s; all tags are kept",
                args.source, plural(len(found.missing), "recording"), found.missing[0],
            )  # fmt: skip
    selected = list(range(archive.shard_count()))[first::step]
    finished = archive.finished_shards()
    remaining = [shard for shard in selected if shard not in finished]
    if len(remaining) < len(selected):
        done = len(selected) - len(remaining)
        log.info("%s: %d of %s are done", args.out, done, plural(len(selected), "shard"))
    results = run_shards(partial(tag_shard, job), remaining, scheduler=compute.scheduler)
    shards = list(progress(results, total=len(remaining), description="tagging", unit="shard"))
    total, failures = sum(shard.recordings for shard in shards), sum(shard.failures for shard in shards)
    incomplete = sum(shard.warnings for shard in shards)
    log_done(
        "%s: %s, %s, %s could not be tagged; summarize it by ust query %s",
        args.out,
        plural(total, "recording"),
        plural(sum(shard.rows for shard in shards), "window"),
        plural(failures, "recording"),
        args.out,
    )
    if incomplete:
        log.warning("incomplete: %s; %s/warnings lists them", plural(incomplete, "recording"), args.out)
    if failures:
        reasons = [reason for shard in shards for reason in shard.reasons]
        raise UserError(
            f"{failures:,} of {plural(total, 'recording')} could not be tagged; {args.out}/failures has the "
            f"reasons:\n{bullet_list(reasons, limit=20)}"
        )


def _check_same(out: str, existing: dict[str, Any], description: dict[str, Any]) -> None:
    """Check that an existing archive has the same source, system and settings as this command."""
    from ust.archive.filesystems import normalize_address

    existing = existing | {"source": normalize_address(existing["source"])}  # relative in older archives
    for key in description:
        if key != "warning" and key in existing and existing[key] != description[key]:
            unset = "that of each label" if key == "threshold" else "none"
            old, new = (unset if each[key] is None else each[key] for each in (existing, description))
            hint = "" if key != "threshold" else (
                f', or keep this one: conditions such as ust query {out} "siren > 0.3" replace a threshold'
            )  # fmt: skip
            raise UserError(
                f"{out}: was created with another {key.replace('_', ' ')} ({old}, now {new}); name another "
                f"folder{hint}"
            )


def _prepare_job(args: argparse.Namespace) -> "tuple[ShardJob, dict[str, Any], Any]":
    """Return the job, the description of the archive, and the section compute."""
    from ust.archive.filesystems import normalize_address
    from ust.archive.shard import ShardJob, column_names
    from ust.features.context import read_places, select_audio_inputs
    from ust.tagging.pretrained import model_id
    from ust.tagging.tagger import Tagger, check_window

    name, folder, inference_options, compute = resolve_system(args)
    if args.shard_clips is not None and args.shard_clips < 1:
        raise UserError(f"--shard-clips is {args.shard_clips}, should be at least 1")
    changes = {"scheduler": args.scheduler, "shard_clips": args.shard_clips}
    compute = compute.model_copy(update={key: value for key, value in changes.items() if value})
    tagger = Tagger.load(folder, **inference_options)  # a broken system should fail before the first shard
    if tagger.warning:
        log.warning("warning: %s: %s", name, tagger.warning)
    check_window(args.window, args.hop)
    places = read_places(args.sensors) if args.sensors else {}
    if places and not tagger.takes_context:
        log.warning("warning: %s was trained without time and place and ignores them", name)
    metadata = tagger.system.metadata
    inputs = {
        key: {"feature": name, **metadata["features"][name]}
        for key, name in select_audio_inputs(metadata["inputs"]).items()
    }
    columns = list(column_names(tagger.taxonomy))
    thresholds = tagger.thresholds.tolist() if args.threshold is None else [args.threshold] * len(columns)
    description = {
        "source": printable(normalize_address(args.source)),
        "system": name,
        "model": model_id(folder, inference_options),
        "window": args.window,
        "hop": args.hop,
        "threshold": args.threshold,
        "thresholds": dict(zip(columns, thresholds, strict=True)),
        "embeddings": inputs if args.embeddings else None,
        "labels": columns,
        "coarse": columns[: len(tagger.taxonomy.coarse)],
        "warning": tagger.warning,
    }
    if tagger.takes_context:
        description["sensor_table"] = {sensor: list(place) for sensor, place in places.items()}
    source = _read_source_archive(args, inputs)
    if source is not None:
        description |= {key: source[key] for key in ("window", "hop")}
        for option in ("embeddings", "retry"):
            if getattr(args, option):
                raise UserError(f"--{option} needs audio, but SOURCE is an archive")
    job = ShardJob(
        archive=normalize_address(args.out),
        model=str(folder.resolve()),
        model_id=description["model"],
        inference_options=inference_options,
        window=description["window"],
        hop=description["hop"],
        threshold=args.threshold,
        embeddings=args.embeddings,
        source_archive=normalize_address(args.source) if source else None,
        places=places,
    )
    return job, description, compute


def _read_source_archive(args: argparse.Namespace, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the description of SOURCE if it is an archive, and check its embeddings."""
    from ust.archive.folder import Archive

    source = Archive(args.source)
    if not source.exists():
        return None
    description = source.description()
    if description["embeddings"] is None:
        raise UserError(f"{args.source}: was tagged without --embeddings; name its recordings instead")
    for key, required in inputs.items():
        if description["embeddings"].get(key) != required:
            raise UserError(
                f"{args.source}: has no {required['feature']} embeddings with this system's settings; name "
                "its recordings instead"
            )
    if len(source.finished_shards()) < max(1, source.shard_count()):
        raise UserError(f"{args.source}: is not finished; tag all of it first")
    return description
